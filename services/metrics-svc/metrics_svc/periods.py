"""The periods a question asks for: calendar hours, days, weeks and months of a time zone, or the whole range."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)


class Interval(StrEnum):
    """How long a period is. Weeks begin on Monday (ISO 8601)."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class Period(NamedTuple):
    """From `start`, before `end`; both in UTC."""

    start: datetime
    end: datetime


class OffTheHourError(ValueError):
    """A period would begin between full hours of UTC, and what is counted is kept by hour."""


class TooManyPeriodsError(ValueError):
    """More periods than the caller allows."""


def periods(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo, most: int) -> list[Period]:
    """The periods from `start` to `end`, the first and last cut to them.

    Raises OffTheHourError for a zone that is no whole number of hours from UTC, TooManyPeriodsError past `most`.
    """
    bounds = [start.astimezone(UTC)]
    for bound in _bounds(bounds[0], interval, zone):
        if bound >= end:
            break
        if len(bounds) == most:
            raise TooManyPeriodsError
        bounds.append(bound)
    bounds.append(end.astimezone(UTC))
    if not all(on_the_hour(bound) for bound in bounds):
        raise OffTheHourError
    return [Period(*pair) for pair in pairwise(bounds)]


def on_the_hour(moment: datetime) -> bool:
    """Whether a full hour of UTC begins at this moment."""
    return hour(moment) == moment


def hour(moment: datetime) -> datetime:
    """The beginning of the hour of UTC a moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _bounds(start: datetime, interval: Interval, zone: ZoneInfo) -> Iterator[datetime]:
    """Where periods begin after `start`, without end but the calendar's."""
    if interval is Interval.HOUR:
        while True:
            yield (start := hour(start) + HOUR)
    if interval is Interval.TOTAL:
        return
    day = start.astimezone(zone).date()
    while True:
        day = _next(day, interval)
        yield datetime.combine(day, time(), zone).astimezone(UTC)


def _next(day: date, interval: Interval) -> date:
    """The first day of the period after the one `day` is in."""
    if interval is Interval.WEEK:
        return day + timedelta(days=7 - day.weekday())
    if interval is Interval.MONTH:
        return (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=1)
