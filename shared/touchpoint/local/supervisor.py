"""Restarts programs that end, with a backoff that doubles while a program keeps ending."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from touchpoint.local.process import Process, Program

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LOOK_SECONDS = 0.25


@dataclass
class Kept:
    """A supervised program: its current process, number of restarts and backoff."""

    program: Program
    process: Process
    restarts: int = 0
    pause: float = FIRST_PAUSE_SECONDS
    since: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def look(self) -> str | None:
        """Restart the program if it ended and its backoff is over. Returns a message if something happened."""
        now = time.monotonic()
        if self.ended is None:
            if self.process.alive():
                return None
            self.pause = min(self.pause * 2, LONGEST_PAUSE_SECONDS) if self._short_lived(now) else FIRST_PAUSE_SECONDS
            self.ended = now
            return f"{self.program.name} has ended; restart in {self.pause:g} s; log: {self.program.log}"
        if now - self.ended < self.pause:
            return None
        self.process, self.since, self.ended = self.program.start(), now, None
        self.restarts += 1
        return f"{self.program.name} was restarted"

    def _short_lived(self, now: float) -> bool:
        return self.restarts > 0 and now - self.since < 2 * LONGEST_PAUSE_SECONDS


class Supervisor:
    """The programs of a stack, in the order they were started."""

    def __init__(self, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        """`changed` is called after each start and each unexpected end, `say` with a line on what happened."""
        self.kept: dict[str, Kept] = {}
        self._changed = changed
        self._say = say

    def start(self, program: Program) -> Process:
        """Start a program and keep it running from now on, while `keep` runs."""
        kept = self.kept[program.name] = Kept(program, program.start())
        self._changed()
        return kept.process

    async def keep(self) -> None:
        """Restart programs that end, until cancelled."""
        while True:
            for happened in filter(None, [kept.look() for kept in self.kept.values()]):
                self._say(happened)
                self._changed()
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self, names: Iterable[str]) -> None:
        """Stop these together and keep them no longer; names that were never started are passed over."""
        leaving = [self.kept.pop(name) for name in list(names) if name in self.kept]
        await asyncio.gather(*(kept.process.stop() for kept in leaving))
