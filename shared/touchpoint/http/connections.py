"""The connections of one server: how many there may be, and which of them end when there are too many, or when slow."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from touchpoint.http.errors import ProblemError

if TYPE_CHECKING:
    from touchpoint.http.protocol import BoundedProtocol

ANSWER_SECONDS = 30
"""Time limit for a client to read an answer."""
OVER = 4
"""A fourth more connections may be there for a moment."""
MOMENT_SECONDS = 0.05
UNREAD_SECONDS = 1
"""A connection whose answer is unread for longer makes room for a new one."""

BUSY = ProblemError(503, "too-many-connections", "All connections are in use.", headers={"Retry-After": "1"})


class Connections(ServerState):
    """The connections of one server, and which of them keep it waiting since when.

    When there are too many, one that has had its last answer makes room; else, of those that are idle or slow to send
    headers, the longest waiting of the address that has most of them. Behind a proxy all have one address: then it is
    the longest waiting of all.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._waiting: dict[str, dict[BoundedProtocol, float]] = {}
        """For a request's headers; by address, the longest first."""
        self.leaving: dict[BoundedProtocol, float] = {}
        """For the client to close the connection, after its last answer."""
        self._making_room = False
        self.receiving: dict[BoundedProtocol, None] = {}
        """In work, and their bodies are not all there."""
        self.unread: dict[BoundedProtocol, float] = {}
        """For the client to take in an answer."""

    def admit(self, newcomer: "BoundedProtocol") -> None:
        """Let a new connection in; if it is one too many, make room a moment later, or refuse it.

        Later, because many may come at once: what they have sent already is to be read first.
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
        """The address with most of the connections that wait."""
        return max(self._waiting, key=lambda address: len(self._waiting[address]))

    def wait(self, connection: "BoundedProtocol") -> None:
        """It keeps the server waiting from now on."""
        self._waiting.setdefault(connection.address, {})[connection] = connection.loop.time()

    def work(self, connection: "BoundedProtocol") -> None:
        """Its request is in work."""
        waiting = self._waiting.get(connection.address)
        if waiting is not None and waiting.pop(connection, None) is not None and not waiting:
            del self._waiting[connection.address]

    def forget(self, connection: "BoundedProtocol") -> None:
        """It has ended."""
        self.work(connection)
        self.leaving.pop(connection, None)
        self.receiving.pop(connection, None)
        self.unread.pop(connection, None)

    def leave(self, connection: "BoundedProtocol") -> None:
        """It has had its last answer."""
        self.work(connection)
        self.receiving.pop(connection, None)
        self.leaving[connection] = connection.loop.time()

    def sweep(self, seconds: float) -> None:
        """End connections past their time limits. `seconds`: the time since the last call."""
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
