"""Times as whole seconds since 1970 (UTC): their text, seasons, and hours in zones with a fixed offset.

Zones have no daylight saving time: the result would depend on the version of the time-zone database.
"""

from collections.abc import Sequence
from datetime import date
from functools import cache

from touchpoint.sample.chance import Chance

MINUTE, HOUR, DAY = 60, 3600, 86_400

_EPOCH = date(1970, 1, 1).toordinal()

SEASON = (1.0, 0.95, 1.0, 1.0, 1.0, 0.95, 0.85, 0.65, 1.0, 1.05, 1.2, 1.6)
"""How much happens in each month, from January on: a low in August, a peak in December."""

_BUSY_HOURS = (7, 8, 8, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 12, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 17, 17, 18, 20)
_PRIVATE_HOURS = (7, 8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 17, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 23, 1)

_OPEN, _NIGHT, _WEEKEND = 1, 3, 5


@cache
def day_text(day: int) -> str:
    """The date of a day since 1970, as in 2025-07-21."""
    return date.fromordinal(_EPOCH + day).isoformat()


@cache
def season(day: int) -> float:
    """How much happens on a day since 1970, relative to a usual one."""
    return SEASON[date.fromordinal(_EPOCH + day).month - 1]


_CLOCK = [f"T{hour:02}:{minute:02}:" for hour in range(24) for minute in range(60)]
_SECONDS = [f"{second:02}Z" for second in range(60)]


def text(moment: int) -> str:
    """A time in RFC 3339, as in 2025-07-21T08:30:00Z."""
    day, seconds = divmod(moment, DAY)
    minutes, second = divmod(seconds, MINUTE)
    return day_text(day) + _CLOCK[minutes] + _SECONDS[second]


def is_weekend(day: int) -> bool:
    """Whether a day since 1970 is a Saturday or a Sunday."""
    return (day + 3) % 7 > 4


def next_contact(chance: Chance, now: int, mean_days: float, zone: int, *, private: bool = False) -> int:
    """When somebody acts next: at least a day later, by the season, at an hour that suits them.

    `zone`: seconds that their clocks are ahead of UTC. `private`: also in the evening and at weekends.
    """
    day, days = (now + zone) // DAY, chance.wait() * mean_days
    day += 1 + int(days / season(day + int(days) // 2))  # the season half way
    if not private and is_weekend(day) and chance.random() < 0.8:
        day += 2
    return hour_of(chance, day, zone, _PRIVATE_HOURS if private else _BUSY_HOURS)


def hour_of(chance: Chance, day: int, zone: int, hours: Sequence[int] = _BUSY_HOURS) -> int:
    """A moment of a local day, at one of these hours."""
    return day * DAY - zone + chance.pick(hours) * HOUR + chance.below(HOUR)


def slowness(moment: int, zone: int) -> int:
    """How many times longer a team takes for what arrives at this moment: at night and at weekends few are at work."""
    day, seconds = divmod(moment + zone, DAY)
    if is_weekend(day):
        return _WEEKEND
    return _OPEN if 8 * HOUR <= seconds < 18 * HOUR else _NIGHT
