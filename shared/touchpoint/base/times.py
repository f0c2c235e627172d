"""Parse times strictly as RFC 3339: in event attributes, event data and queries."""

import re
from datetime import UTC, datetime, timedelta

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

FORM = "must be a time as in RFC 3339, with T and an offset from UTC, such as 2026-11-22T09:30:00Z"
YEARS = "the year must lie between 1900 and 2199"

_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_RFC3339 = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt]({_HOUR}:{_SIXTY}:)({_SIXTY}|60)(?:\.([0-9]+))?([Zz]|[+-]{_HOUR}:{_SIXTY})"
)
_LAST_MICROSECOND = "59.999999"


def read(text: str) -> datetime:
    """Parse a time; digits beyond microseconds are cut off. Raises ValueError with the form that would be valid.

    A leap second, 23:59:60 in UTC on the last day of a month, becomes the last microsecond before it, as neither
    `datetime` nor PostgreSQL stores a 61st second; this keeps it on its day.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(FORM)
    date, clock, seconds, fraction, offset = match.groups()
    leap = seconds == "60"
    exact = _LAST_MICROSECOND if leap else f"{seconds}.{(fraction or '')[:6]:0<6}"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{exact}{'+00:00' if offset in 'Zz' else offset}")
    except ValueError:
        raise ValueError(f"{date} is not a day of the calendar") from None
    if leap and not _ends_a_month(moment):
        raise ValueError("second 60 exists only as 23:59:60 in UTC on the last day of a month")
    return moment


def _ends_a_month(moment: datetime) -> bool:
    try:
        following = moment.astimezone(UTC) + timedelta(microseconds=1)
    except OverflowError:  # in year 9999, the last that datetime supports
        return False
    return (following.day, following.hour, following.minute) == (1, 0, 0)
