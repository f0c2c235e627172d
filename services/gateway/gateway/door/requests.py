"""Reading a request within bounds, for routes that work on bare ASGI."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Message, Receive, Scope

from gateway.door.gzip import Unpacker
from touchpoint.http.errors import ProblemError

SMALL_BYTES = 16 * 1024
"""A body up to this that comes in one piece is not counted: there are no more of those than connections."""

HEADERS, TENANT = "touchpoint.limits", "touchpoint.tenant"
"""Where a request's scope holds the headers that tell of limits, and whose it is."""
BODIES, _HELD = "touchpoint.bodies", "touchpoint.held_bytes"


class Bodies:
    """Counts what the bodies in work hold of this process's memory. In a request's scope as BODIES.

    One tenant has half of it at most: whoever sends slowly what is large takes nobody else's place.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._of = Counter[str]()
        self.held_bytes = 0

    def hold(self, scope: Scope, size: int) -> None:
        """Count so many bytes more of a request, until its `release`. Raises ProblemError 503 when it is too much."""
        tenant = scope[TENANT]
        if self.held_bytes + size > self._most or self._of[tenant] + size > self._most // 2:
            detail = "Too many large bodies are being read at the moment; send it again."
            raise ProblemError(503, "too-many-bodies", detail, headers={"Retry-After": "1"})
        self.held_bytes += size
        self._of[tenant] += size
        scope[_HELD] = scope.get(_HELD, 0) + size

    def release(self, scope: Scope) -> None:
        """The request is answered."""
        if held := scope.pop(_HELD, 0):
            self.held_bytes -= held
            self._of[scope[TENANT]] -= held
            if not self._of[scope[TENANT]]:
                del self._of[scope[TENANT]]


class Answer(NamedTuple):
    """An answer that is passed on, or given again."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


def body_too_large(limit: int) -> ProblemError:
    """The problem of a body above a route's limit."""
    return ProblemError(413, "body-too-large", f"The body may have {limit:,} bytes, unpacked.")


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, too_large: Callable[[], ProblemError]) -> bytes:
    """The body, unpacked when it is gzip.

    Raises `too_large()` as soon as it is known to exceed the limit, packed or unpacked; else ProblemError: 400 when it
    is cut or no gzip, 415 for another encoding, 503 when too many are being read.
    """
    encoding, length = header(scope, b"content-encoding"), header(scope, b"content-length")
    unpacker = None if encoding is None else _unpacker(encoding)
    if length is not None and length.isdigit() and int(length) > limit:
        raise too_large()
    message = await receive()
    if unpacker is None and message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise too_large()
        if len(body) > SMALL_BYTES:
            scope[BODIES].hold(scope, len(body))
        return body
    return await _read_on(scope, message, receive, limit, too_large, unpacker=unpacker)


async def _read_on(
    scope: Scope,
    message: Message,
    receive: Receive,
    limit: int,
    too_large: Callable[[], ProblemError],
    *,
    unpacker: Unpacker | None,
) -> bytes:
    """A body in several parts, of which one has been received."""
    body, received = bytearray(), 0
    while True:
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "incomplete-body", "The connection ended before the body did.")
        part = message.get("body", b"")
        received += len(part)
        for piece in (part,) if unpacker is None else unpacker.unpack(part):
            if max(received, len(body) + len(piece)) > limit:
                raise too_large()
            scope[BODIES].hold(scope, len(piece))
            body += piece
            if unpacker is not None:
                await asyncio.sleep(0)  # a piece takes a fraction of a millisecond; others get their turn
        if not message.get("more_body", False):
            if unpacker is not None:
                unpacker.finish()
            return bytes(body)
        message = await receive()


def _unpacker(encoding: str) -> Unpacker | None:
    """What a Content-Encoding asks for; raises ProblemError 415 for all but gzip."""
    codings = [coding for word in encoding.split(",") if (coding := word.strip().lower()) not in ("", "identity")]
    if not codings:
        return None
    if codings not in (["gzip"], ["x-gzip"]):
        raise ProblemError(
            415,
            "unsupported-content-encoding",
            f"Send the body as it is or with Content-Encoding: gzip, not {encoding[:100]}.",
            headers={"Accept-Encoding": "gzip, identity"},  # RFC 9110, 12.5.3
        )
    return Unpacker()
