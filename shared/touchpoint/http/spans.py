"""A span per HTTP request, in the trace that the client's header `traceparent` names."""

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span, use_span
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from touchpoint.base import tracing


def traced(app: ASGIApp) -> ASGIApp:
    """The application, wrapped so that each request gets a span; unchanged while tracing is off."""
    tracer = tracing.tracer()
    return app if tracer is None else Traced(app, tracer)


class Traced:
    """Creates a span per request, without paths and queries, as these may contain customer data."""

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
        # Exceptions are not recorded, as their messages may contain customer data.
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            await self._app(scope, receive, send)


def tell(method: str, route: str, status: int) -> None:
    """Set the name and attributes of the current request's span: method, route pattern and status."""
    span = get_current_span()
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
