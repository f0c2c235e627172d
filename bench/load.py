"""An HTTP client with little overhead: sends prebuilt requests over keep-alive connections, one at a time on each."""

import asyncio
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


def request(method: str, path: str, key: str, content_type: str = "", body: bytes = b"") -> bytes:
    """The bytes of a request."""
    kind = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n" if content_type else ""
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n{kind}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """A keep-alive connection; call `ask` only after the previous call has returned."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport: Any = transport

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; returns the response's status and body. Raises ConnectionError if the connection is lost."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            return
        head = self._received[:end].lower() + b"\r\n"
        at = head.find(_LENGTH) + len(_LENGTH)
        whole = end + len(_END) + int(head[at : head.index(b"\r\n", at)])
        if len(self._received) >= whole and self._answered is not None:
            answer, self._received = self._received, b""
            self._answered.set_result((int(answer[9:12]), answer[end + len(_END) :]))

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the server closed the connection"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def connect(url: str, connections: int) -> list[Connection]:
    """Open `connections` connections to the host and port of a URL."""
    place = urlsplit(url)
    assert place.hostname
    assert place.port
    host, port = place.hostname, place.port
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, host, port))[1] for _ in range(connections)]


async def closed_loop(
    open_connections: Sequence[Connection], requests: Iterable[bytes], expected: int
) -> dict[str, float]:
    """Send each request once, distributed over the connections; each sends its next request after the response.

    Returns the total `seconds`, and `p50_ms` and `p99_ms` of a request. Raises RuntimeError at a response with a status
    other than `expected`.
    """
    waiting, took = iter(requests), array("d")
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for connection in open_connections:
            tasks.create_task(_keep_asking(connection, waiting, expected, took))
    return {"seconds": time.perf_counter() - begun, **percentiles(took)}


async def _keep_asking(connection: Connection, requests: Iterator[bytes], expected: int, took: "array[float]") -> None:
    for sending in requests:
        sent = time.perf_counter()
        status, body = await connection.ask(sending)
        took.append(time.perf_counter() - sent)
        if status != expected:
            raise RuntimeError(f"expected {expected}, not {status}: {body[:500].decode()}")


def percentiles(seconds: Iterable[float], name: str = "") -> dict[str, float]:
    """The median and the 99th percentile (nearest rank) of durations in seconds, as `p50_ms` and `p99_ms`."""
    ordered = sorted(seconds)
    return {f"{name}p{p}_ms": 1000 * ordered[min(len(ordered) * p // 100, len(ordered) - 1)] for p in (50, 99)}
