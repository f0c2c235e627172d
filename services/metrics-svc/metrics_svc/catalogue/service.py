"""The metrics, dimensions and scales that counting and queries share."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

UNKNOWN = "unknown"
"""Segment or tier if no event has given it, if it was cleared, or if the event names no customer."""


class Metric(StrEnum):
    """A metric that is measured."""

    NPS = "nps"
    CSAT = "csat"
    CES = "ces"
    FIRST_RESPONSE = "first-response"
    RESOLUTION = "resolution"


class Dimension(StrEnum):
    """A dimension by which metrics can be grouped and filtered."""

    CHANNEL = "channel"
    SEGMENT = "segment"
    TIER = "tier"


class Scale(NamedTuple):
    """The scale of a score, in whole numbers, written "1-5". Scores on different scales are never pooled."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; bounds may be negative."""
        cut = text.index("-", 1)
        return cls(int(text[:cut]), int(text[cut + 1 :]))

    @property
    def satisfied_from(self) -> int:
        """The lowest score counted as satisfied: the top two boxes, or the top one of fewer than five points."""
        return self.high if self.high - self.low + 1 < 5 else self.high - 1


NPS_SCALE = Scale(0, 10)
EASE_SCALE = Scale(1, 7)
"""The only scale of the effort score on which a high score is known to be good: "… made it easy" (CEB 2013)."""

QUARTER = timedelta(minutes=15)
"""Measurements are stored by quarter of an hour. Since October 1979 every zone's UTC offset is a multiple of it."""


def on_the_quarter(moment: datetime) -> bool:
    """Whether the moment is the start of a quarter of an hour of UTC."""
    return quarter(moment) == moment


def quarter(moment: datetime) -> datetime:
    """The start of the quarter of an hour of UTC that contains the moment."""
    utc = moment.astimezone(UTC)
    return utc.replace(minute=utc.minute // 15 * 15, second=0, microsecond=0)
