"""How long requests take and how they end, by their route's pattern: a path anybody may make up."""

import time
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from touchpoint.base import tracing
from touchpoint.base.telemetry import HTTP_SECONDS
from touchpoint.http.spans import tell

CLIENT_LEFT = 499
"""What a request is noted as whose client left before its answer; the number nginx made customary."""
UNKNOWN = "unknown"
"""The route of what no route answers."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

_series = lru_cache(HTTP_SECONDS.labels)


def note(method: str, route: str, status: int, started: float) -> None:
    """Take down that a request was answered, which began at `started` (time.perf_counter)."""
    _series(method, route, status).observe(time.perf_counter() - started)
    if tracing.tracer() is not None:
        tell(method, route, status)


class Timed:
    """Times the requests an application answers. `route`: the pattern of all of them, else the one it has found."""

    def __init__(self, app: ASGIApp, route: str | None = None) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how long it took and how it ended."""
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
