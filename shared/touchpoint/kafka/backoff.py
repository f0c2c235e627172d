"""Pauses after errors."""

import asyncio
import random
import time
from dataclasses import dataclass

from touchpoint.base.pausing import pause


@dataclass(slots=True)
class Backoff:
    """Pauses that double, with jitter, from half a second to half a minute."""

    until: float = 0.0
    _failures: int = 0

    def failed(self) -> float:
        """Start the next pause; answers its seconds."""
        self._failures += 1
        seconds = min(30.0, 0.25 * 2.0 ** min(self._failures, 10)) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self.until = time.monotonic() + seconds
        return seconds

    def succeeded(self) -> None:
        """Forget past failures."""
        self._failures = 0
        self.until = 0.0

    async def wait(self, stop: asyncio.Event) -> None:
        """Start the next pause and sit it out, or less when told to stop."""
        await pause(stop, self.failed())

    @property
    def active(self) -> bool:
        """Whether a pause is going on."""
        return time.monotonic() < self.until
