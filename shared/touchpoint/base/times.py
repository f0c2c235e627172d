"""Points in time as text: RFC 3339 to the letter, for attributes, data and queries alike."""

import re
from datetime import UTC, datetime, timedelta

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

FORM = "must be a time as RFC 3339 has it, with T and an offset from UTC, such as 2026-11-22T09:30:00Z"
YEARS = "the year must lie between 1900 and 2199"

_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_RFC3339 = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt]({_HOUR}:{_SIXTY}:)({_SIXTY}|60)(?:\.([0-9]+))?([Zz]|[+-]{_HOUR}:{_SIXTY})"
)
_LAST_MICROSECOND = "59.999999"


def read(text: str) -> datetime:
    """The point in time; digits beyond microseconds are cut off. Raises ValueError with what would be right.

    A leap second, which is 23:59:60 in UTC on the last day of a month, becomes the last microsecond before it: no
    calendar here has a 61st second, and it stays on its day.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(FORM)
    date, clock, seconds, fraction, offset = found.groups()
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
    except OverflowError:  # at the very end of the calendar
        return False
    return (following.day, following.hour, following.minute) == (1, 0, 0)
