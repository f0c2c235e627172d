"""ETags and gzip: an answer that the client has already is a 304, a long answer is packed if the client accepts it."""

import asyncio
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.door.requests import header

LEAST_BYTES = 1400
"""A shorter answer fits into a single network packet unpacked."""
LEVEL = 1
"""zlib's fastest: JSON becomes a fifth of its size with it; the slowest gains little and takes four times as long."""
IN_A_THREAD_BYTES = 64 * 1024
"""Longer answers are packed in a thread: they would block the event loop for more than a millisecond."""
GZIP = 16 + zlib.MAX_WBITS
PACKED_TYPES = ("application/json", "application/problem+json", "text/")

Headers = list[tuple[bytes, bytes]]


class Compact:
    """Packs an application's answers with gzip. With `etag`, an answer that has not changed is a 304.

    The ETag is weak (RFC 9110, 8.8.1): the same content, packed or not. Answers in several parts pass as they are.
    An ETag that the application gave stays as it is. If it is strong, the answer is not packed: packed, it would need
    a different one (8.8.3), which the application would not recognise in If-Match.
    """

    def __init__(self, app: ASGIApp, *, etag: bool = False) -> None:
        self._app = app
        self._etag = etag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start: Message | None = None

        async def holding(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                if not message.get("more_body", False):
                    await self._change(scope, start, message)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, holding)

    async def _change(self, scope: Scope, start: Message, message: Message) -> None:
        """Change a complete answer: add an ETag, make it a 304, or pack it."""
        headers, body = cast("Headers", list(start["headers"])), cast("bytes", message.get("body", b""))
        names = dict(headers)
        if b"content-encoding" in names or not names.get(b"content-type", b"").decode().startswith(PACKED_TYPES):
            return
        headers.append((b"vary", b"accept-encoding"))
        start["headers"] = headers
        if names.get(b"etag", b"").startswith(b'"'):
            return
        if self._etag and start["status"] == 200 and b"etag" not in names:
            tag = f'W/"{blake2b(body, digest_size=16).hexdigest()}"'
            headers.append((b"etag", tag.encode()))
            if _is_known(header(scope, b"if-none-match"), tag):
                start["status"], message["body"] = 304, b""
                start["headers"] = [pair for pair in headers if pair[0] not in (b"content-type", b"content-length")]
                return
        if len(body) >= LEAST_BYTES and _unpacks(
            value for name, value in scope["headers"] if name == b"accept-encoding"
        ):
            packed = await asyncio.to_thread(_pack, body) if len(body) > IN_A_THREAD_BYTES else _pack(body)
            message["body"] = packed
            kept = [pair for pair in headers if pair[0] != b"content-length"]
            start["headers"] = [*kept, (b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(packed))]


def _pack(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, wbits=GZIP)
    return packer.compress(body) + packer.flush()


def _unpacks(accepted: Iterable[bytes]) -> bool:
    """Whether the client accepts gzip (RFC 9110, 12.5.3). If it does not mention gzip, it gets the answer unpacked."""
    weights = dict[str, float]()
    for part in b",".join(accepted).decode("latin-1").lower().split(","):
        coding, *parameters = (each.strip() for each in part.split(";"))
        weights[coding] = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether If-None-Match names this ETag, by the weak comparison of RFC 9110, 13.1.2."""
    if if_none_match is None:
        return False
    known = [each.strip() for each in if_none_match.split(",")]
    return "*" in known or tag.removeprefix("W/") in (each.removeprefix("W/") for each in known)
