"""Random decisions that are the same on every machine and every Python.

Python guarantees the sequence of `random.Random(whole number).random()` alone, so everything else is arithmetic on it:
no logarithm or power, whose last digit depends on the C library, and no other method of `Random`.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_EXPONENTIAL = (
    0.0, 0.051, 0.105, 0.163, 0.223, 0.288, 0.357, 0.431, 0.511, 0.598, 0.693,
    0.799, 0.916, 1.05, 1.204, 1.386, 1.609, 1.897, 2.303, 2.996, 5.1,
)  # fmt: skip
"""The quantiles 0, 5, … 100 % of waits between independent arrivals, with mean 1; the last is cut."""
_TAILED = (
    0.08, 0.16, 0.22, 0.28, 0.33, 0.39, 0.44, 0.5, 0.56, 0.63, 0.7,
    0.78, 0.88, 0.98, 1.11, 1.27, 1.47, 1.75, 2.15, 2.9, 6.0,
)  # fmt: skip
"""The quantiles of durations of work, with mean about 1: most are short, a few very long."""


def weighted(**weights: int) -> tuple[str, ...]:
    """A sequence that has each name as often as its weight, to `pick` from."""
    return tuple(name for name, weight in weights.items() for _ in range(weight))


def scores(lowest: int, *weights: int) -> tuple[int, ...]:
    """A sequence of whole numbers from `lowest` on, each as often as its weight, to `pick` from."""
    return tuple(score for score, weight in enumerate(weights, start=lowest) for _ in range(weight))


class Chance:
    """A stream of decisions that a text determines, such as a seed with the arguments of a world."""

    __slots__ = ("random",)

    def __init__(self, seed: str) -> None:
        source = random.Random(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]))  # noqa: S311 (no secret)
        self.random = source.random

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return int(self.random() * bound)

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def happens(self, percent: int) -> bool:
        """Whether something happens that does so in this share of cases."""
        return self.random() * 100 < percent

    def pick(self, choices: Sequence[T]) -> T:
        """An item of a sequence, each with the same chance."""
        return choices[int(self.random() * len(choices))]

    def wait(self) -> float:
        """A wait until the next of independent arrivals; its mean is 1."""
        return self._quantile(_EXPONENTIAL)

    def effort(self) -> float:
        """How long a piece of work takes, relative to its mean."""
        return self._quantile(_TAILED)

    def even_effort(self, turn: int) -> float:
        """As `effort`, but any hundred consecutive turns have all percentiles, so that their mean hardly varies."""
        return self._quantile(_TAILED, (37 * turn % 100 + self.random()) / 100)

    def _quantile(self, table: Sequence[float], share: float | None = None) -> float:
        place = (self.random() if share is None else share) * 20
        index = int(place)
        return table[index] + (table[index + 1] - table[index]) * (place - index)
