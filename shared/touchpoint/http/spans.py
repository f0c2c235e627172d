"""A request's span, within the trace its client has told of."""

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span, use_span
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from touchpoint.base import tracing


def traced(app: ASGIApp) -> ASGIApp:
    """The application, with a span for each request while there are traces."""
    tracer = tracing.tracer()
    return app if tracer is None else Traced(app, tracer)


class Traced:
    """Makes a span of each request. Paths and queries are not told: they name customers."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = tracing.within(Headers(scope=scope).get(tracing.TRACEPARENT))
        span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER)
        # What an exception says may quote a customer.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            await self._app(scope, receive, send)


def tell(method: str, route: str, status: int) -> None:
    """Say of the current request's span what it was, by its route's pattern, and how it ended."""
    span = get_current_span()
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
