"""Answers only as long as their clients need: not at all to one that has it already, packed to one that can unpack."""

import asyncio
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.door.requests import header

LEAST_BYTES = 1400
"""A shorter answer fits into a packet as it is."""
LEVEL = 1
"""zlib's fastest: JSON becomes a fifth of its size with it; the slowest gains little and takes four times as long."""
IN_A_THREAD_BYTES = 64 * 1024
"""Packing more than this would keep other requests waiting for more than a millisecond."""
GZIP = 16 + zlib.MAX_WBITS
PACKED_TYPES = ("application/json", "application/problem+json", "text/")

Headers = list[tuple[bytes, bytes]]


class Compact:
    """Packs an application's answers with gzip. With `etag`, one that has not changed is 304.

    The ETag is weak (RFC 9110, 8.8.1): the same content, packed or not. Answers in several parts pass as they are.
    An ETag that the application gave stays as it is. If it is strong, the answer is not packed: packed, it would need
    another one (8.8.3), which the application would not know again in If-Match.
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
                    await self._shorten(scope, start, message)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, holding)

    async def _shorten(self, scope: Scope, start: Message, message: Message) -> None:
        """Change an answer that is whole."""
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
    """Whether a client takes gzip (RFC 9110, 12.5.3); one that does not mention it is sent the answer as it is."""
    weights = dict[str, float]()
    for part in b",".join(accepted).decode("latin-1").lower().split(","):
        coding, *parameters = (word.strip() for word in part.split(";"))
        weights[coding] = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has the answer of this ETag: compared weakly, as If-None-Match asks (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    known = [each.strip() for each in if_none_match.split(",")]
    return "*" in known or tag.removeprefix("W/") in (each.removeprefix("W/") for each in known)
