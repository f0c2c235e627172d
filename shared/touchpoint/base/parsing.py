"""Parse what operators write on the command line and over HTTP: times, log positions and spans of offsets."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from touchpoint.base.errors import UsageError
from touchpoint.base.times import EARLIEST, LATEST

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(written: str) -> datetime:
    """Parse a time: RFC 3339, a date (its start in UTC), or an age such as 90s, 30m, 2h, 3d. Raises UsageError."""
    try:
        if ago := re.fullmatch(r"(\d{1,6})([smhd])", written):
            time = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        else:
            time = datetime.fromisoformat(written)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        if EARLIEST <= time < LATEST:
            return time
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{written!r} is not a time: write 2026-11-22T09:30:00Z, 2026-11-22, or 2h for two hours ago")


def place(written: str) -> tuple[str, int, int] | None:
    """Parse a position in the log, `topic/partition/offset`; None if the text is not one."""
    topic, *numbers = written.rsplit("/", 2)
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return topic, int(numbers[0]), int(numbers[1])


class Span(NamedTuple):
    """A range of offsets in one partition."""

    topic: str
    partition: int
    offsets: range


def span(written: str) -> Span | None:
    """Parse offsets of one partition, `topic/partition/first-last` or `topic/partition/offset`; None if neither."""
    start, dash, last = written.rpartition("-")
    first = place(start if dash and last.isdecimal() else written)
    if first is None:
        return None
    topic, partition, offset = first
    return Span(topic, partition, range(offset, (int(last) if dash and last.isdecimal() else offset) + 1))
