"""Split long work on the event loop into short time slices, so that other tasks run between them."""

import asyncio
import time

SLICE_SECONDS = 0.00025
"""Length of a time slice, in seconds of work between two yields to the event loop."""
YIELDS = 10
"""Loop iterations per yield, at most. A small request takes about this many from reading its socket to writing the
answer, so it waits for at most one slice where it arrives and one where Kafka acknowledges it."""
IDLE_SECONDS = 0.000005
"""A loop iteration shorter than this ran no other task: the yield ends early."""


class TimeSlice:
    """The time slices of one piece of work; the first begins when this object is created."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE_SECONDS

    def expired(self) -> bool:
        """Whether the slice has used up its time: call this between two steps of the work."""
        return time.perf_counter() > self._end

    async def pause(self) -> None:
        """Yield to the event loop while other tasks use it, up to YIELDS iterations; then begin a new slice."""
        now = time.perf_counter()
        for _ in range(YIELDS):
            begun = now
            await asyncio.sleep(0)
            now = time.perf_counter()
            if now - begun < IDLE_SECONDS:
                break
        self._end = now + SLICE_SECONDS
