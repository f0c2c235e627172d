"""Duration and status of requests as metrics, by route pattern: clients could invent any number of paths."""

import time
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from touchpoint.base import tracing
from touchpoint.base.telemetry import HTTP_SECONDS
from touchpoint.http.spans import tell

CLIENT_LEFT = 499
"""Status in metrics of a request whose client disconnected before the answer; nginx uses the same number."""
UNKNOWN = "unknown"
"""Route label of requests that match no route."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

_series = lru_cache(HTTP_SECONDS.labels)


def note(method: str, route: str, status: int, started: float) -> None:
    """Record a finished request in the metrics and in its span. `started`: time.perf_counter() at its start."""
    _series(method, route, status).observe(time.perf_counter() - started)
    if tracing.tracer() is not None:
        tell(method, route, status)


class Timed:
    """ASGI middleware that measures requests. `route`: their pattern; by default that of the route that matched."""

    def __init__(self, app: ASGIApp, route: str | None = None) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and record its duration and status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = CLIENT_LEFT

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = self._route or str(getattr(scope.get("route"), "path", UNKNOWN))
            note(method, route, status, started)
