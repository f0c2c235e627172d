"""Limits the speed of a replay: to its rate, and more while the lag of the live consumer grows."""

from dataclasses import dataclass, field

FREE_LAG = 1000
"""Lag in records up to which the replay does not slow down: less than one batch of the live consumer."""
LONGEST_PAUSE = 2.0
"""The longest pause in seconds between batches: a replay makes progress even if the live consumer is stuck."""
SHORTEST_PAUSE = 0.05


@dataclass(slots=True)
class Pace:
    """`rate`: events per second; None: unlimited."""

    rate: int | None
    pause: float = 0.0
    """Seconds to pause after each batch in favour of the live consumer."""
    _lag: int = field(default=0, init=False)

    def take_in(self, lag: int) -> None:
        """Adapt the pause to the live consumer's lag in records: double it while the lag grows, else halve it."""
        if lag > FREE_LAG and lag >= self._lag:
            self.pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * self.pause))
        else:
            self.pause = self.pause / 2 if self.pause > SHORTEST_PAUSE else 0.0
        self._lag = lag

    def records(self, limit: int) -> int:
        """The batch size in records: at most `limit`, and at most what `rate` allows in one second."""
        return limit if self.rate is None else max(1, min(limit, self.rate))

    def seconds(self, events: int, took: float) -> float:
        """Seconds to wait after a batch of `events` events that took `took` seconds."""
        due = 0.0 if self.rate is None else events / self.rate - took
        return max(due, self.pause, 0.0)
