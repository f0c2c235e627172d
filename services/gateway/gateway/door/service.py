"""What all routes share: the ASGI wrapper around each, and the parts that the rooms above use of this room."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.door.compact import Compact
from gateway.door.places import PLACES, Places
from gateway.door.requests import BODIES, BODY_BYTES, HEADERS, TENANT, Answer, Bodies, header, read_body
from gateway.door.telemetry import LIMITED
from touchpoint.http.errors import ProblemError, response
from touchpoint.http.timing import CLIENT_LEFT, note

PRIVATE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Headers of every answer: a tenant's data is kept by no cache, and browsers do not guess its type."""


class LimitedError(ProblemError):
    """429. `hold`: seconds to delay the answer, because the client ignores Retry-After."""

    def __init__(self, code: str, detail: str, wait: int, hold: float) -> None:
        super().__init__(429, code, f"{detail} Try again in {wait} s.", headers={"Retry-After": str(wait)})
        self.hold = hold


class BrokenAnswerError(Exception):
    """An answer that has begun cannot be completed: the client must see that its rest is missing."""


class Door:
    """Wraps a route: turns ProblemError into an answer, adds headers, measures, and releases what the request held.

    Plain ASGI: a framework's middleware would cost more than the rest of the ingest.
    """

    def __init__(self, route: str, app: ASGIApp, bodies: Bodies, places: Places) -> None:
        self._route = route
        self._app = app
        self._bodies = bodies
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record its duration and status."""
        started = time.perf_counter()
        scope[BODIES], scope[PLACES] = self._bodies, self._places
        status = CLIENT_LEFT

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *PRIVATE, *scope.get(HEADERS, ())]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except ProblemError as error:
            if isinstance(error, LimitedError):
                await asyncio.sleep(error.hold)
            await response(error)(scope, receive, observe)
        except BrokenAnswerError:
            status = 502  # The server ends the connection of an answer that is not complete.
        except Exception:
            status = 500
            raise
        finally:
            self._bodies.release(scope)
            self._places.release(scope)
            note(scope["method"], self._route, status, started)


__all__ = [
    "BODIES",
    "BODY_BYTES",
    "HEADERS",
    "LIMITED",
    "PLACES",
    "TENANT",
    "Answer",
    "Bodies",
    "BrokenAnswerError",
    "Compact",
    "Door",
    "LimitedError",
    "Places",
    "header",
    "read_body",
]
