"""Exponential backoff after errors."""

import asyncio
import random
import time
from dataclasses import dataclass

from touchpoint.base.pausing import pause


@dataclass(slots=True)
class Backoff:
    """Pauses that double from 0.5 s to 30 s, with ±25 % jitter."""

    until: float = 0.0
    _failures: int = 0

    def failed(self) -> float:
        """Start the next pause and return its length in seconds."""
        self._failures += 1
        seconds = min(30.0, 0.25 * 2.0 ** min(self._failures, 10)) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self.until = time.monotonic() + seconds
        return seconds

    def succeeded(self) -> None:
        """Reset the failure count and end the pause."""
        self._failures = 0
        self.until = 0.0

    async def wait(self, stop: asyncio.Event) -> None:
        """Start the next pause and wait until it ends or `stop` is set."""
        await pause(stop, self.failed())

    @property
    def active(self) -> bool:
        """Whether a pause is in progress."""
        return time.monotonic() < self.until
