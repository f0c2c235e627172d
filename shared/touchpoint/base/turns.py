"""Long work on the event loop in short pieces, so that other requests need not wait for all of it."""

import asyncio
import time

TURN_SECONDS = 0.00025
"""Work goes on for so long; then others get their turns,"""
TURNS = 10
"""so many while they use them, which is about as many as a small request takes from socket to socket: it waits for no
more than one piece where it comes in, and for one where Kafka answers."""
UNUSED_SECONDS = 0.000005
"""A turn that is over so soon was used by nobody."""


class Turns:
    """One piece of work's turns; they begin when this is made."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + TURN_SECONDS

    def over(self) -> bool:
        """To be asked between two steps: whether it is the others' turn."""
        return time.perf_counter() > self._end

    async def give(self) -> None:
        """Let the others have theirs."""
        now = time.perf_counter()
        for _ in range(TURNS):
            begun = now
            await asyncio.sleep(0)
            now = time.perf_counter()
            if now - begun < UNUSED_SECONDS:
                break
        self._end = now + TURN_SECONDS
