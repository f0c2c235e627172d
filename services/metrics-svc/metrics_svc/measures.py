"""What is measured, and by what it can be told apart: the words counting and answering have in common."""

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

MOST_ITEMS = 1_000
"""Periods times groups in one answer."""


class Count(NamedTuple):
    """What one period, scale and group adds up to."""

    period: int
    """Its place among the periods asked for, from 0."""
    scale: str
    """Empty for durations, and where nothing was measured."""
    group: tuple[str, ...]
    buckets: dict[int, int]
    """How many of each score, or in each of the sketch's buckets."""
    total: int

    @property
    def n(self) -> int:
        """How many were measured."""
        return sum(self.buckets.values())
