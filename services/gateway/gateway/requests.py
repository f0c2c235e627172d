"""Reading a request within bounds, for routes that work on bare ASGI."""

import asyncio

from starlette.types import Receive, Scope

from touchpoint.http.errors import ProblemError

BODY_SECONDS = 30
"""So long a client may take to send a body."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, too_large: ProblemError) -> bytes:
    """The body. Raises `too_large` as soon as it is known to exceed the limit, 415 when compressed, 408 when slow."""
    encoding = header(scope, b"content-encoding")
    if encoding not in (None, "identity"):
        raise ProblemError(415, "unsupported-content-encoding", f"Send the body as it is, not as {encoding}.")
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise too_large
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, limit, too_large)
    except TimeoutError:
        raise ProblemError(408, "body-too-slow", f"The body did not arrive within {BODY_SECONDS} seconds.") from None


async def _read(receive: Receive, limit: int, too_large: ProblemError) -> bytes:
    parts, size = list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "incomplete-body", "The connection ended before the body did.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(parts)
