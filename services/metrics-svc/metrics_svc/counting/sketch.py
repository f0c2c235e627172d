"""Durations as counts in logarithmic buckets: DDSketch without collapsing (Masson, Rim & Lee 2019, arXiv 1908.10693).

Bucket 0 holds zero; bucket i ≥ 1 holds the durations in (γ^(i−2), γ^(i−1)] microseconds, γ = (1 + a) / (1 − a). Its
value, 2γ^(i−1) / (γ + 1), is within the relative accuracy a = 1 % of every duration in it. A merge adds the counts:
its result does not depend on how the data was split or in which order it came. The bounds are computed in whole
numbers, so that every machine puts a duration into the same bucket.
"""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import date, timedelta
from fractions import Fraction
from itertools import accumulate

RELATIVE_ACCURACY = Fraction(1, 100)
GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)

_GAMMA = float(GAMMA)
_MIDDLE = float(2 / (GAMMA + 1))
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = (date.max - date.min + timedelta(days=3)) // _MICROSECOND


def _bounds() -> list[int]:
    """The largest whole number of microseconds in each bucket; the last holds the longest duration there can be."""
    bounds, numerator, denominator = [0], 1, 1
    while bounds[-1] < _LONGEST:
        bounds.append(numerator // denominator)
        numerator, denominator = numerator * GAMMA.numerator, denominator * GAMMA.denominator
    return bounds


_BOUNDS = _bounds()


def microseconds(duration: timedelta) -> int:
    """A duration in whole microseconds; a negative one counts as 0."""
    return max(0, duration // _MICROSECOND)


def bucket(duration: int) -> int:
    """The bucket of a duration in microseconds, 0 or more."""
    return bisect_left(_BOUNDS, duration)


def value(index: int) -> float:
    """The value of a bucket in seconds."""
    return _MIDDLE * _GAMMA ** (index - 1) / 1_000_000 if index else 0.0


class Sketch:
    """Durations as counts by bucket (bucket → count), from which ranks and percentiles are read."""

    def __init__(self, buckets: Mapping[int, int]) -> None:
        self._buckets = sorted(buckets)
        self._through = list(accumulate(buckets[index] for index in self._buckets))
        self.n = self._through[-1] if self._through else 0

    def at_rank(self, rank: int) -> float:
        """The duration of this rank in seconds; 1 is the shortest, n the longest."""
        return value(self._buckets[bisect_left(self._through, rank)])

    def percentile(self, percent: int) -> float | None:
        """The nearest-rank percentile (1 to 100) in seconds, as PostgreSQL's `percentile_disc`; None if n is 0."""
        return self.at_rank(-(-percent * self.n // 100)) if self.n else None
