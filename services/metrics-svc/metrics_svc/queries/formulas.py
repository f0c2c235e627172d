"""The formulas of the metrics, each computed from counts alone, each with its source. Intervals are 95 %.

If nothing was measured, the value is None, never 0. A sample too small for its method has a value but no interval.
"""

from collections.abc import Mapping
from math import floor, sqrt
from typing import NamedTuple

Z = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""

FEWEST_NET, FEWEST_MEAN, FEWEST_MEDIAN = 10, 3, 6
"""The least number of answers, or durations, for an interval of a net score, of a mean and of a median."""


class Interval(NamedTuple):
    """A 95 % confidence interval of the true value."""

    low: float
    high: float


def net(plus: int, minus: int, n: int) -> float | None:
    """A net score in points, −100 to 100: 100 · (plus − minus) / n. NPS: promoters and detractors (Reichheld 2003)."""
    return 100 * (plus - minus) / n if n else None


def net_interval(plus: int, minus: int, n: int) -> Interval | None:
    """Adjusted Wald interval in points: adds ¾ to plus and to minus, and 3 to n (Rocks 2016, arXiv 1601.07235).

    With p = (plus + ¾) / (n + 3) and d likewise: p − d ± 1.96 · √((p + d − (p − d)²) / (n + 3)), cut at −100 and 100.
    It is centred on the adjusted score, so it leans towards 0 in small samples.

    None below `FEWEST_NET`. Computed exactly over a grid of true shares in steps of 0.05, it covers 95 % on average at
    every n, but for some shares only 65 % at n = 1, 84 % at 5, 88 % at 10. At n = 1 it excludes the value itself.
    """
    if n < FEWEST_NET:
        return None
    p, d = (plus + 0.75) / (n + 3), (minus + 0.75) / (n + 3)
    margin = Z * sqrt((p + d - (p - d) ** 2) / (n + 3))
    return Interval(max(-100.0, 100 * (p - d - margin)), min(100.0, 100 * (p - d + margin)))


def share(part: int, n: int) -> float | None:
    """The share part / n, 0 to 1."""
    return part / n if n else None


def share_interval(part: int, n: int) -> Interval | None:
    """Wilson's score interval without continuity correction (Wilson 1927; Newcombe 1998, method 3)."""
    if not n:
        return None
    centre = part + Z**2 / 2
    margin = Z * sqrt(part * (n - part) / n + Z**2 / 4)
    return Interval(max(0.0, (centre - margin) / (n + Z**2)), min(1.0, (centre + margin) / (n + Z**2)))


def mean(distribution: Mapping[int, int]) -> float | None:
    """Mean score of a distribution score → answers."""
    n = sum(distribution.values())
    return sum(score * count for score, count in distribution.items()) / n if n else None


def mean_interval(distribution: Mapping[int, int], low: int, high: int) -> Interval | None:
    """Student's t interval of a mean score, cut at the scale's ends.

    None below `FEWEST_MEAN` answers, and when all answers agree: t would claim certainty.
    """
    n = sum(distribution.values())
    centre = mean(distribution)
    if n < FEWEST_MEAN or centre is None:
        return None
    squares = sum(count * (score - centre) ** 2 for score, count in distribution.items())
    margin = _t(n - 1) * sqrt(squares / (n - 1) / n)
    return Interval(max(float(low), centre - margin), min(float(high), centre + margin)) if margin else None


def _t(freedom: int) -> float:
    """The 97.5 % point of Student's t: Abramowitz & Stegun 26.7.5, 0.7 % low at 2 degrees, within 0.13 % above."""
    z, v = Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


def median_ranks(n: int) -> tuple[int, int] | None:
    """Ranks (from 1) of the two ordered values between which the true median lies, whatever the distribution.

    Binomial ranks (Campbell & Gardner 1988, BMJ 296:1454) by the normal approximation, rounded outwards: checked
    against the exact binomial it covers at least 95 % for every n. None below 6 values: no two of them cover 95 %.
    """
    low = floor((n + 1 - Z * sqrt(n)) / 2)
    return (low, n + 1 - low) if low >= 1 else None
