"""How fast a replay goes: not above its rate, and slower for as long as the live consumer falls behind."""

from dataclasses import dataclass, field

FREE_LAG = 1000
"""Records the live consumer may be behind without anybody slowing down: less than a batch of its own."""
LONGEST_PAUSE = 2.0
"""Seconds between two batches at the slowest: a replay beside a consumer that stands still does get on."""
SHORTEST_PAUSE = 0.05


@dataclass(slots=True)
class Pace:
    """`rate`: events a second, None for as many as go."""

    rate: int | None
    pause: float = 0.0
    """Seconds to leave to the live consumer after each batch."""
    _lag: int = field(default=0, init=False)

    def take_in(self, lag: int) -> None:
        """The live consumer is so many records behind: halve the pause, or double it while they grow."""
        if lag > FREE_LAG and lag >= self._lag:
            self.pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * self.pause))
        else:
            self.pause = self.pause / 2 if self.pause > SHORTEST_PAUSE else 0.0
        self._lag = lag

    def records(self, most: int) -> int:
        """How many records to take at once, so that a batch is no more than a second's worth."""
        return most if self.rate is None else max(1, min(most, self.rate))

    def seconds(self, events: int, took: float) -> float:
        """How long to wait after a batch with so many events that took so long."""
        due = 0.0 if self.rate is None else events / self.rate - took
        return max(due, self.pause, 0.0)
