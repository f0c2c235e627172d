"""The client connections of one server: their limit, and which are closed if there are too many or if they are slow."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from touchpoint.http.errors import ProblemError

if TYPE_CHECKING:
    from touchpoint.http.protocol import BoundedProtocol

ANSWER_SECONDS = 30
"""Time limit for a client to read an answer, in seconds."""
OVER = 4
"""The limit may be exceeded by a fourth of it (1 / OVER), for MOMENT_SECONDS."""
MOMENT_SECONDS = 0.05
UNREAD_SECONDS = 1
"""Seconds after which a connection with an unread answer may be closed to make room for a new one."""

BUSY = ProblemError(503, "too-many-connections", "All connections are in use.", headers={"Retry-After": "1"})


class Connections(ServerState):
    """The connections of one server, and since when the server has been waiting for each of them.

    Above the limit, a connection is closed to make room: first one that has had its last answer; else, of the address
    with most connections that are idle or slow to send headers, the one waited for longest. Behind a proxy all clients
    have one address, so this is the one waited for longest of all.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._waiting: dict[str, dict[BoundedProtocol, float]] = {}
        """By address: connections that wait for a request's headers, with the time since when, longest first."""
        self.leaving: dict[BoundedProtocol, float] = {}
        """Connections that have had their last answer, with the time since when the client has not closed them."""
        self._making_room = False
        self.receiving: dict[BoundedProtocol, None] = {}
        """Connections whose request is being handled while its body is still arriving."""
        self.unread: dict[BoundedProtocol, float] = {}
        """Connections whose client does not read its answer, with the time since when."""

    def admit(self, newcomer: "BoundedProtocol") -> None:
        """Accept a new connection; above the limit, make room MOMENT_SECONDS later, or refuse it.

        The delay lets the server first read the requests that other new connections have already sent.
        """
        self.wait(newcomer)
        if len(self.connections) > self._most + self._most // OVER:
            largest = self._largest()
            if newcomer.address == largest:
                newcomer.refuse(BUSY)
            else:
                self._cut(next(iter(self._waiting[largest])))
        elif len(self.connections) > self._most and not self._making_room:
            self._making_room = True
            newcomer.loop.call_later(MOMENT_SECONDS, self._make_room, newcomer.loop)

    def _make_room(self, loop: asyncio.AbstractEventLoop) -> None:
        self._making_room = False
        now = loop.time()
        others: list[BoundedProtocol] = []
        for _ in range(len(self.connections) - self._most):
            other = self._least_needed(now)
            if other is None:
                break
            others.append(other)
            self.forget(other)
        for other in others:
            self._cut(other)

    def _cut(self, connection: "BoundedProtocol") -> None:
        connection.cut("idle")
        self.connections.discard(connection)
        self.forget(connection)

    def _largest(self) -> str:
        """The address with most connections that wait for headers."""
        return max(self._waiting, key=lambda address: len(self._waiting[address]))

    def wait(self, connection: "BoundedProtocol") -> None:
        """Register that the server now waits for a request of this connection."""
        self._waiting.setdefault(connection.address, {})[connection] = connection.loop.time()

    def work(self, connection: "BoundedProtocol") -> None:
        """Register that a request of this connection is being handled."""
        waiting = self._waiting.get(connection.address)
        if waiting is not None and waiting.pop(connection, None) is not None and not waiting:
            del self._waiting[connection.address]

    def forget(self, connection: "BoundedProtocol") -> None:
        """Remove a connection that has ended."""
        self.work(connection)
        self.leaving.pop(connection, None)
        self.receiving.pop(connection, None)
        self.unread.pop(connection, None)

    def leave(self, connection: "BoundedProtocol") -> None:
        """Register that this connection has had its last answer."""
        self.work(connection)
        self.receiving.pop(connection, None)
        self.leaving[connection] = connection.loop.time()

    def sweep(self, seconds: float) -> None:
        """Close connections that have exceeded a time limit. `seconds`: time since the last call."""
        now = asyncio.get_running_loop().time()
        self._make_room(asyncio.get_running_loop())
        for connection, since in [entry for waiting in self._waiting.values() for entry in waiting.items()]:
            connection.give_up_waiting(now - since)
        for connection, since in list(self.leaving.items()):
            connection.give_up_leaving(now - since)
        for connection in list(self.receiving):
            connection.give_up_receiving(seconds)
        for connection in _since(self.unread, now - ANSWER_SECONDS):
            connection.cut("answer_not_read")

    def _least_needed(self, now: float) -> "BoundedProtocol | None":
        if self.leaving:
            return next(iter(self.leaving))
        if self._waiting:
            longest = next(iter(self._waiting[self._largest()]))
            if not longest.is_new(now):
                return longest
        return next(_since(self.unread, now - UNREAD_SECONDS), None)


def _since(entries: Mapping["BoundedProtocol", float], limit: float) -> Iterator["BoundedProtocol"]:
    return (connection for connection, since in list(entries.items()) if since < limit)
