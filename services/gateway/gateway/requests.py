"""Reading a request within bounds, for routes that work on bare ASGI."""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Scope

from touchpoint.http.errors import ProblemError

BODY_SECONDS = 30
"""So long a client may take to send a body."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, too_large: Callable[[], ProblemError]) -> bytes:
    """The body. Raises `too_large()` as soon as it is known to exceed the limit, 415 when compressed, 408 when slow."""
    encoding = header(scope, b"content-encoding")
    if encoding not in (None, "identity"):
        raise ProblemError(415, "unsupported-content-encoding", f"Send the body as it is, not as {encoding}.")
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                body: bytes = message.get("body", b"")
                if len(body) > limit:
                    raise too_large()
                return body
            return await _read_on(message, receive, limit, too_large)
    except TimeoutError:
        raise ProblemError(408, "body-too-slow", f"The body did not arrive within {BODY_SECONDS} seconds.") from None


async def _read_on(message: Message, receive: Receive, limit: int, too_large: Callable[[], ProblemError]) -> bytes:
    """A body in several parts, of which one has been received."""
    parts, size = list[bytes](), 0
    while True:
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "incomplete-body", "The connection ended before the body did.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large()
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
