"""Reading a request's headers and body within limits, for routes in plain ASGI."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from starlette.types import Message, Receive, Scope

from gateway.door.gzip import Unpacker
from touchpoint.http.errors import ProblemError

SMALL_BYTES = 16 * 1024
"""A body up to this size that arrives in a single ASGI message is not counted: the connections bound their number."""

BODY_BYTES = 256 * 1024
"""Limit of a body, unpacked, unless its route has another."""

HEADERS, TENANT = "touchpoint.limits", "touchpoint.tenant"
"""Keys of a request's ASGI scope: the RateLimit headers of its answer, and its tenant."""
BODIES, _HELD = "touchpoint.bodies", "touchpoint.held_bytes"


class Bodies:
    """Limits the memory that request bodies take in this process. In a request's ASGI scope under BODIES.

    A tenant gets half of it at most, so that a tenant with slow, large bodies does not block the others.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._of = Counter[str]()
        self.held_bytes = 0

    def hold(self, scope: Scope, size: int) -> None:
        """Count further bytes of a request, until its `release`. Raises ProblemError 503 above a limit."""
        tenant = scope[TENANT]
        if self.held_bytes + size > self._most or self._of[tenant] + size > self._most // 2:
            detail = "Too many large bodies are being read at the moment; send it again."
            raise ProblemError(503, "too-many-bodies", detail, headers={"Retry-After": "1"})
        self.held_bytes += size
        self._of[tenant] += size
        scope[_HELD] = scope.get(_HELD, 0) + size

    def release(self, scope: Scope) -> None:
        """Release the bytes that the request holds, once it is answered."""
        if held := scope.pop(_HELD, 0):
            self.held_bytes -= held
            self._of[scope[TENANT]] -= held
            if not self._of[scope[TENANT]]:
                del self._of[scope[TENANT]]


class Answer(NamedTuple):
    """An answer of a service, or one kept under an Idempotency-Key."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


def _too_large(limit: int) -> ProblemError:
    """The problem of a body above a route's limit."""
    return ProblemError(413, "body-too-large", f"The body may have {limit:,} bytes, unpacked.")


def header(scope: Scope, name: bytes) -> str | None:
    """The value of the first header with this name, given in lower case; None if there is none."""
    for given, value in scope["headers"]:
        if given == name:
            return str(value, "latin-1")
    return None


async def read_body(
    scope: Scope, receive: Receive, limit: int = BODY_BYTES, too_large: Callable[[], ProblemError] | None = None
) -> bytes:
    """The body, unpacked when it is gzip.

    Raises `too_large()` as soon as it exceeds the limit, packed or unpacked; by default that is 413 `body-too-large`.
    Other ProblemErrors: 400 when it is incomplete or not valid gzip, 415 for another encoding, 503 when bodies take too
    much memory already.
    """
    too_large = too_large or partial(_too_large, limit)
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
    """Read a body that comes in several messages; `message` is the first of them."""
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
                await asyncio.sleep(0)  # lets other requests run between two pieces
        if not message.get("more_body", False):
            if unpacker is not None:
                unpacker.finish()
            return bytes(body)
        message = await receive()


def _unpacker(encoding: str) -> Unpacker | None:
    """An unpacker for this Content-Encoding, None for identity. Raises ProblemError 415 for anything but gzip."""
    codings = [coding for part in encoding.split(",") if (coding := part.strip().lower()) not in ("", "identity")]
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
