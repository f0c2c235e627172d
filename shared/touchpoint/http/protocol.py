"""HTTP/1.1 on one connection: uvicorn's protocol class with a reader, bounds and deadlines of its own.

`wire` parses requests strictly and one at a time: a pipelined request is not parsed before the previous answer is
complete. `Upgrade` is ignored (RFC 9110, 7.8): the request is served over HTTP/1.1, with its body. A client has
HEAD_SECONDS from its connection, or its last answer, to the end of the next request's headers. A body must arrive
within BODY_SECONDS and at BODY_BYTES_PER_SECOND or more.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from touchpoint.base.telemetry import CONNECTIONS_ENDED
from touchpoint.http.connections import Connections
from touchpoint.http.errors import MEDIA_TYPE, ProblemError
from touchpoint.http.wire import Head, RequestReader

HEAD_SECONDS = 10
BODY_SECONDS = 30
BODY_BYTES_PER_SECOND = 1024
"""Minimum average rate of a body, measured while the application reads it."""
PAUSE_SECONDS = 5
"""Seconds that a body may pause before its rate is enforced."""
IDLE_SECONDS = 5
"""Keep-alive timeout: seconds that an idle connection stays open after an answer."""
LEAVING_SECONDS = 2
"""Seconds after the last answer in which further data of the client is read and dropped."""
MAX_AHEAD_BYTES = 64 * 1024
"""Pipelined bytes buffered before the current answer is complete, plus at most one read of the socket."""
MAX_UNREAD_BYTES = 64 * 1024
"""Rest of a body that is read and dropped if the answer comes before its end; with a longer rest the connection is
closed."""

TOO_SLOW = ProblemError(408, "headers-too-slow", f"The headers did not arrive within {HEAD_SECONDS} seconds.")
BODY_TOO_SLOW = ProblemError(
    408,
    "body-too-slow",
    f"A body has to arrive within {BODY_SECONDS} seconds, at {BODY_BYTES_PER_SECOND:,} bytes a second or more.",
)


class BoundedProtocol(HttpToolsProtocol):
    """One client connection. The state of its server must be `Connections`."""

    server_state: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = RequestReader()
        self._keep_alive = True
        self.address = ""
        self._made = 0.0
        self._body_seconds = 0.0
        """Seconds since the body began to arrive."""
        self._body_credit = 0.0
        """Seconds that the body may still pause before it is too slow."""
        self._body_bytes = 0
        """Bytes of the body since the last check of its rate."""
        self._stopping = False
        """Whether the server is shutting down."""
        self._leaving = False
        """Whether the connection is being closed: no request is read or answered, but an answer may still be sent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Register the connection, which the server may refuse."""
        super().connection_made(transport)
        self._made = self.loop.time()
        self.address = self.client[0] if self.client else ""
        # The transport of answers: closing it closes the connection as `leave` does.
        self._answering: Any = SimpleNamespace(
            write=transport.write, is_closing=lambda: self._leaving or transport.is_closing(), close=self.leave
        )
        self.server_state.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.server_state.forget(self)

    def data_received(self, data: bytes) -> None:
        """Parse data from the client."""
        if self._leaving:
            return
        self.reader.feed(data)
        self._read()

    def _read(self) -> None:
        """Continue with the current request's body or, if it is answered, with the next request."""
        try:
            if not self.reader.complete:
                self._go_on()
            if self.reader.complete and (self.cycle is None or self.cycle.response_complete):
                head = self.reader.head() if self.reader.pending else None
                if head is not None:
                    self._begin(head)
        except ProblemError as error:
            self.refuse(error)
        if self.reader.pending > MAX_AHEAD_BYTES:
            self.flow.pause_reading()

    def _begin(self, head: Head) -> None:
        """Start the application on a request."""
        self.server_state.work(self)
        self._keep_alive = head.keep_alive
        self.scope = HTTPScope(
            type="http",
            asgi={"version": self.asgi_version, "spec_version": "2.3"},
            http_version=head.version,
            server=self.server,
            client=self.client,
            scheme=self.scheme or "http",
            method=head.method,
            root_path=self.root_path,
            path=self.root_path + head.path,
            raw_path=self.root_path.encode() + head.raw_path,
            query_string=head.query,
            headers=head.headers,
            state=self.app_state.copy(),
            extensions={},
        )
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self._answering,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue and not self.reader.pending,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        self._body_seconds, self._body_credit, self._body_bytes = 0.0, PAUSE_SECONDS, 0
        self._go_on()
        if not self.reader.complete:
            self.server_state.receiving[self] = None
        app: Any = _options if head.path == "*" else self.app
        self._start_asgi_task(self.cycle, app)

    def _go_on(self) -> None:
        """Pass arrived parts of the body to the application, or drop them after the answer. Raises ProblemError."""
        cycle, reader = self.cycle, self.reader
        piece = b"" if reader.complete else reader.body()
        if cycle.response_complete:
            return
        cycle.body += piece
        self._body_bytes += len(piece)
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        if reader.complete:
            cycle.more_body = False
            self.server_state.receiving.pop(self, None)
        # If the answer precedes the end of the body, a client that waits for a 100 may or may not send the body.
        left = reader.left
        droppable = reader.complete or (left is not None and left <= MAX_UNREAD_BYTES)
        cycle.keep_alive = self._keep_alive and droppable and not cycle.waiting_for_100_continue
        if piece or reader.complete:
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Read the next request, or wait for it."""
        self.server_state.total_requests += 1
        if self._leaving or self.transport.is_closing():
            return
        self.cycle.body.clear()  # nobody reads it any more
        self.flow.resume_reading()
        self.server_state.receiving.pop(self, None)
        self.server_state.wait(self)
        self._read()

    def shutdown(self) -> None:
        """Finish the current request, if any, and accept no more."""
        self._keep_alive, self._stopping = False, True
        super().shutdown()

    def pause_writing(self) -> None:
        """Register that the client does not read its answer."""
        super().pause_writing()
        self.server_state.unread[self] = self.loop.time()

    def resume_writing(self) -> None:
        """Register that the client reads its answer again."""
        super().resume_writing()
        self.server_state.unread.pop(self, None)

    def give_up_waiting(self, seconds: float) -> None:
        """Close the connection if it has been idle, or its headers incomplete, for too long (`seconds`)."""
        if self.cycle is not None and self.reader.complete and not self.reader.pending:
            if seconds > IDLE_SECONDS:
                self.leave()
        elif seconds > HEAD_SECONDS:
            if self.reader.pending:
                self.refuse(TOO_SLOW)
            else:
                self.leave()

    def give_up_leaving(self, seconds: float) -> None:
        """Abort the connection if its last answer is too long ago (`seconds`)."""
        unsent = self.transport.get_write_buffer_size()
        if seconds > (HEAD_SECONDS if unsent else LEAVING_SECONDS):
            self.transport.abort()

    def give_up_receiving(self, seconds: float) -> None:
        """Refuse the request if its body is too slow. `seconds`: time since the last call."""
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            return  # the client waits for this server
        self._body_seconds += seconds
        earned = self._body_bytes / BODY_BYTES_PER_SECOND
        self._body_credit = min(self._body_credit - seconds + earned, PAUSE_SECONDS)
        self._body_bytes = 0
        if self._body_credit < 0 or self._body_seconds > BODY_SECONDS:
            self.refuse(BODY_TOO_SLOW)

    def refuse(self, error: ProblemError) -> None:
        """Close the connection; first answer the current request with `error`, unless an answer has begun."""
        if self._leaving or self.transport.is_closing():
            return
        CONNECTIONS_ENDED.labels(_REASONS.get(error.problem.type.rpartition(":")[2], "malformed")).inc()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            answered = not self.reader.complete
        else:
            answered = cycle.response_started
            cycle.disconnected = True  # the application gets no more of the body, and its answer goes nowhere
            cycle.message_event.set()
        if not answered:
            self.transport.write(_whole(error, self.server_state.default_headers))
        self.leave()

    def leave(self) -> None:
        """Close the connection once the client has received everything that was written.

        At first only the sending half is closed. If the client is still sending, a full close would make the kernel
        reset the connection, and the client might lose its answer (RFC 9112, 9.6).
        """
        if self._leaving or self.transport.is_closing():
            return
        self._leaving = True
        self.server_state.leave(self)
        if self._stopping:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.flow.resume_reading()
        self.reader.clear()

    def is_new(self, now: float) -> bool:
        """Whether this connection was opened within the last second and has not sent anything yet."""
        return now - self._made < 1 and self.cycle is None and not self.reader.pending and not self._leaving

    def cut(self, reason: str) -> None:
        """Abort the connection."""
        CONNECTIONS_ENDED.labels(reason).inc()
        self._leaving = True
        self.transport.abort()


_REASONS = {
    "headers-too-slow": "headers_too_slow",
    "body-too-slow": "body_too_slow",
    "address-too-long": "headers_too_large",
    "headers-too-large": "headers_too_large",
    "too-many-connections": "refused",
}
"""By problem code: the label `reason` of the metric CONNECTIONS_ENDED."""


def _whole(error: ProblemError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The bytes of an answer that is sent without the application."""
    body = error.problem.model_dump_json(exclude_none=True).encode()
    own = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close", **error.headers}
    lines = [f"HTTP/1.1 {error.problem.status} {error.problem.title}", *(f"{k}: {v}" for k, v in own.items())]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _options(_: Scope, __: Receive, send: Send) -> None:
    """Answer `OPTIONS *`, a ping of the server (RFC 9110, 9.3.7)."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
