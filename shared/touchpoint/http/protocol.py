"""HTTP on one connection, within bounds: uvicorn's own protocol sets none to what a client may hold or how long.

A client has HEAD_SECONDS from the connection, or its last answer, to the end of the next request's headers, and
ANSWER_SECONDS to take in an answer. What is no body (headers, trailers, chunk extensions) is bounded in bytes.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from touchpoint.http.errors import MEDIA_TYPE, ProblemError
from touchpoint.telemetry import CONNECTIONS_ENDED

HEAD_SECONDS = 10
ANSWER_SECONDS = 30
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
MAX_AHEAD = 16
"""Requests sent without waiting for the answers to those before."""
ROOM_SECONDS = 1
"""Who has kept the server waiting for so long makes room for a newcomer."""


def _whole(error: ProblemError) -> bytes:
    """An answer for who gets no further than this."""
    body = error.problem.model_dump_json(exclude_none=True).encode()
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close", **error.headers}
    lines = [f"HTTP/1.1 {error.problem.status} {error.problem.title}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


BUSY = _whole(ProblemError(503, "too-many-connections", "All connections are in use.", headers={"Retry-After": "1"}))
MALFORMED = _whole(
    ProblemError(400, "malformed-request", f"This is not HTTP/1.1, or more than {MAX_AHEAD} requests at once.")
)
TOO_LARGE = _whole(
    ProblemError(431, "headers-too-large", f"A request may have {MAX_HEADERS} headers and 64 KiB before its body.")
)
TOO_SLOW = _whole(ProblemError(408, "headers-too-slow", f"The headers did not arrive within {HEAD_SECONDS} seconds."))


class Connections(ServerState):
    """The connections of one server: how many there may be, and which of them keep it waiting since when."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.waiting: dict[BoundedProtocol, float] = {}
        """For a request's headers; the longest first."""
        self.unread: dict[BoundedProtocol, float] = {}
        """For the client to take in an answer."""

    def admit(self, newcomer: "BoundedProtocol") -> None:
        """Let a new connection in if there is room, or if one that is idle can make room."""
        now = newcomer.loop.time()
        self.waiting[newcomer] = now
        if len(self.connections) <= self._most:
            return
        longest, since = next(iter(self.waiting.items()))
        if now - since > ROOM_SECONDS:
            longest.end("idle")
            longest.transport.abort()
            self.connections.discard(longest)
            del self.waiting[longest]
        else:
            newcomer.end("refused", BUSY)

    def sweep(self) -> None:
        """End what has kept the server waiting for too long. Call it every second."""
        now = asyncio.get_running_loop().time()
        for connection in _since(self.waiting, now - HEAD_SECONDS):
            if connection.transport.is_closing():  # it does not even take in what is left for it
                connection.transport.abort()
            else:
                connection.end("headers_too_slow", TOO_SLOW if connection.unparsed else b"")
        for connection in _since(self.unread, now - ANSWER_SECONDS):
            connection.end("answer_not_read")
            connection.transport.abort()


def _since(found: Mapping["BoundedProtocol", float], limit: float) -> Iterator["BoundedProtocol"]:
    return (connection for connection, since in list(found.items()) if since < limit)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Its server's state has to be `Connections`."""

    server_state: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unparsed = 0
        """Bytes received since the last headers or body, at most one reading of the socket too many."""
        self._refusal = MALFORMED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin, or refuse to."""
        super().connection_made(transport)
        self.server_state.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.server_state.waiting.pop(self, None)
        self.server_state.unread.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Take in what came; too much that is no body ends the connection."""
        if self.transport.is_closing():
            return
        self.unparsed += len(data)
        super().data_received(data)
        if self.unparsed > MAX_HEAD_BYTES or (self.headers and len(self.headers) > MAX_HEADERS):
            self._refusal = TOO_LARGE
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """Pass a request on; raises what makes uvicorn call `send_400_response` when it is out of bounds."""
        if (self.unparsed > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES) or len(self.headers) > MAX_HEADERS:
            self._refusal = TOO_LARGE
            raise ValueError("headers too large")
        if len(self.pipeline) == MAX_AHEAD:
            raise ValueError("too many requests ahead")
        self.unparsed = 0
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self.unparsed = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self.cycle.body.clear()  # nobody reads it any more
            self.server_state.waiting[self] = self.loop.time()

    def pause_writing(self) -> None:
        """Note that the client does not take in its answer."""
        super().pause_writing()
        self.server_state.unread[self] = self.loop.time()

    def resume_writing(self) -> None:
        """Note that it does again."""
        super().resume_writing()
        self.server_state.unread.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be read."""
        if self.transport.is_closing():
            return
        self.server_state.waiting.setdefault(self, self.loop.time())
        self.end("headers_too_large" if self._refusal is TOO_LARGE else "malformed", self._refusal)

    def end(self, reason: str, answer: bytes = b"") -> None:
        """Close the connection, with an answer unless one has begun."""
        CONNECTIONS_ENDED.labels(reason).inc()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
