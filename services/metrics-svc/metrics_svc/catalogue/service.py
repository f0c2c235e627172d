"""What is measured, and the dimensions it is grouped by: what counting and answering have in common."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

UNKNOWN = "unknown"
"""Segment or tier of a customer nobody told us about, of one whose value was cleared, and of nobody in particular."""


class Metric(StrEnum):
    """What is counted."""

    NPS = "nps"
    CSAT = "csat"
    CES = "ces"
    FIRST_RESPONSE = "first-response"
    RESOLUTION = "resolution"


class Dimension(StrEnum):
    """What every count can be told apart by."""

    CHANNEL = "channel"
    SEGMENT = "segment"
    TIER = "tier"


class Scale(NamedTuple):
    """The whole numbers a score was asked on, written "1-5". Answers on two scales are never pooled."""

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
        """The lowest score that counts as satisfied: the top two boxes, the top one on fewer than five points."""
        return self.high if self.high - self.low + 1 < 5 else self.high - 1


NPS_SCALE = Scale(0, 10)
EASE_SCALE = Scale(1, 7)
"""The form of the effort score that says which end is good: "… made it easy", 7 is full agreement (CEB 2013)."""

QUARTER = timedelta(minutes=15)
"""What measurements are kept by. From October 1979 on every zone is a whole number of these from UTC."""


def on_the_quarter(moment: datetime) -> bool:
    """Whether a quarter of an hour of UTC begins at this moment."""
    return quarter(moment) == moment


def quarter(moment: datetime) -> datetime:
    """The beginning of the quarter of an hour of UTC a moment is in."""
    utc = moment.astimezone(UTC)
    return utc.replace(minute=utc.minute // 15 * 15, second=0, microsecond=0)
