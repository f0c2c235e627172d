"""The connections of one server: how many there may be, and which of them end when there are too many, or when slow."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from touchpoint.http.errors import ProblemError

if TYPE_CHECKING:
    from touchpoint.http.protocol import BoundedProtocol

ANSWER_SECONDS = 30
"""A client may take so long to take in an answer."""
ROOM_SECONDS = 1
"""Who has kept the server waiting for so long makes room for a newcomer."""

BUSY = ProblemError(503, "too-many-connections", "All connections are in use.", headers={"Retry-After": "1"})


class Connections(ServerState):
    """The connections of one server, and which of them keep it waiting since when."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.waiting: dict[BoundedProtocol, float] = {}
        """For a request's headers, or for the client to leave; the longest first."""
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
            longest.cut("idle")
            self.connections.discard(longest)
            self.forget(longest)
        else:
            newcomer.refuse(BUSY)

    def forget(self, connection: "BoundedProtocol") -> None:
        """It has ended."""
        self.waiting.pop(connection, None)
        self.unread.pop(connection, None)

    def sweep(self) -> None:
        """End what has kept the server waiting for too long. Call it every second."""
        now = asyncio.get_running_loop().time()
        for connection, since in list(self.waiting.items()):
            connection.give_up_waiting(now - since)
        for connection in _since(self.unread, now - ANSWER_SECONDS):
            connection.cut("answer_not_read")


def _since(entries: Mapping["BoundedProtocol", float], limit: float) -> Iterator["BoundedProtocol"]:
    return (connection for connection, since in list(entries.items()) if since < limit)
