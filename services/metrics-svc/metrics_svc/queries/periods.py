"""The periods of a query: calendar hours, days, weeks and months of a time zone, or the whole range."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from metrics_svc.catalogue.service import QUARTER, on_the_quarter

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


class OffTheQuarterError(ValueError):
    """A period would begin within a quarter of an hour of UTC, but measurements are stored by whole quarters."""


class TooManyPeriodsError(ValueError):
    """More periods than the caller allows."""


def periods(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo, most: int) -> list[Period]:
    """The periods from `start` to `end`, the first and last cut to them.

    A day that a zone skipped (Apia, 30 December 2011) is no period. Raises OffTheQuarterError where the zone's UTC
    offset was not a multiple of a quarter of an hour, TooManyPeriodsError above `most` periods.
    """
    bounds = [start.astimezone(UTC)]
    for bound in _bounds(bounds[0], interval, zone):
        if bound >= end:
            break
        if bound <= bounds[-1]:
            continue
        if len(bounds) == most:
            raise TooManyPeriodsError
        bounds.append(bound)
    bounds.append(end.astimezone(UTC))
    if not all(on_the_quarter(bound) for bound in bounds):
        raise OffTheQuarterError
    return [Period(*pair) for pair in pairwise(bounds)]


def _bounds(start: datetime, interval: Interval, zone: ZoneInfo) -> Iterator[datetime]:
    """The beginnings of the periods after `start`, without an end; a skipped day begins when the next one does."""
    if interval is Interval.TOTAL:
        return
    if interval is Interval.HOUR:
        while True:
            yield (start := start + HOUR - _past_the_hour(start.astimezone(zone)))
    day = start.astimezone(zone).date()
    while True:
        day = _next(day, interval)
        yield _beginning(day, zone)


def _past_the_hour(local: datetime) -> timedelta:
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _beginning(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day: midnight; of two midnights the first; if clocks skipped it, the moment after that."""
    moment = datetime.combine(day, time(), zone).astimezone(UTC)
    while (moment - QUARTER).astimezone(zone).date() >= day:
        moment -= QUARTER
    return moment


def _next(day: date, interval: Interval) -> date:
    """The first day of the period after the one that contains `day`."""
    if interval is Interval.WEEK:
        return day + timedelta(days=7 - day.weekday())
    if interval is Interval.MONTH:
        return (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=1)
