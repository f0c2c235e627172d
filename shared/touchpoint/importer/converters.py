"""The closed set of converters a mapping can name with `as`: from what files hold to what contracts want.

Each takes a value that is not null and raises ValueError saying what is wrong with it. Null means: nothing was given.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from touchpoint.base.times import EARLIEST, LATEST

_CLOCK = re.compile(r"(?P<h>\d+):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d(\.\d*)?)")
_ISO_DURATION = re.compile(r"P((?P<d>\d+)D)?(T((?P<h>\d+)H)?((?P<m>\d+)M)?((?P<s>\d+(\.\d+)?)S)?)?")
_TRUTH = {"true": True, "yes": True, "y": True, "1": True, "false": False, "no": False, "n": False, "0": False}


def text(value: Any) -> str | None:
    """Any plain value as trimmed text; blank is null."""
    if isinstance(value, dict | list):
        raise ValueError(f"{_shown(value)} is not a plain value")
    return (value if isinstance(value, str) else json.dumps(value)).strip() or None


def lower(value: Any) -> str | None:
    """Text in lower case."""
    found = text(value)
    return found and found.lower()


def number(value: Any) -> float | int | None:
    """A number with a decimal point."""
    found = text(value)
    if found is None:
        return None
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", found, re.ASCII):
        raise ValueError(f"{_shown(value)} is not a number")
    return int(found) if re.fullmatch(r"[+-]?\d{1,15}", found) else float(found)


def boolean(value: Any) -> bool | None:
    """true, yes, y or 1; false, no, n or 0."""
    found = lower(value)
    if found is None:
        return None
    if found not in _TRUTH:
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return _TRUTH[found]


def words(value: Any) -> list[str]:
    """A list of texts, or one text split at commas and semicolons."""
    parts = value if isinstance(value, list) else re.split("[,;]", text(value) or "")
    return [found for found in map(text, parts) if found]


def duration(value: Any) -> float | None:
    """Seconds: a number of them, `hh:mm:ss`, or ISO 8601 such as `PT1H30M`."""
    found = text(value)
    if found is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", found, re.ASCII):
        return float(found)
    match = _CLOCK.fullmatch(found) or (_ISO_DURATION.fullmatch(found) if found not in ("P", "PT") else None)
    if match is None:
        raise ValueError(f"{_shown(value)} is not a duration: seconds, hh:mm:ss or ISO 8601 (PT1H30M)")
    parts = {name: float(part) for name, part in match.groupdict().items() if part}
    return parts.get("d", 0) * 86400 + parts.get("h", 0) * 3600 + parts.get("m", 0) * 60 + parts.get("s", 0)


def sha256_id(value: Any) -> str:
    """A stable id that does not show what it was made of: a hash of the value, whatever its shape."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def moment(value: Any, form: str | None, zone: tzinfo | None) -> datetime | None:
    """A point in time. `form`: iso (default), epoch_s, epoch_ms or a strptime format; `zone` for times without offset.

    A time that occurred twice, as clocks went back, is read as the first. One that never was is refused.
    """
    found = text(value)
    if found is None:
        return None
    try:
        parsed = _parsed(found, form)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a time as {form or 'ISO 8601'}") from None
    if not EARLIEST.year <= parsed.year < LATEST.year:
        raise ValueError(f"{_shown(value)} does not lie between {EARLIEST.year} and {LATEST.year - 1}")
    if parsed.tzinfo is not None:
        return parsed
    if zone is None:
        raise ValueError(f"{_shown(value)} has no offset from UTC: name its zone in the mapping")
    placed = parsed.replace(tzinfo=zone)
    if placed.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != parsed:
        raise ValueError(f"{_shown(value)} never was in {zone}: clocks went forward; is the zone right?")
    return placed


def day(value: Any, form: str | None) -> str | None:
    """A date, as ISO 8601 writes it. `form`: iso (default) or a strptime format."""
    found = text(value)
    if found is None:
        return None
    try:
        parsed = date.fromisoformat(found) if form in (None, "iso") else datetime.strptime(found, form).date()  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        raise ValueError(f"{_shown(value)} is not a date as {form or 'ISO 8601'}") from None
    return parsed.isoformat()


PLAIN: dict[str, Callable[[Any], Any]] = {
    "text": text,
    "lower": lower,
    "number": number,
    "boolean": boolean,
    "list": words,
    "duration": duration,
    "sha256_id": sha256_id,
}
"""Converters that need nothing but the value; `time` and `date` also take a format, `time` a zone."""


def _parsed(found: str, form: str | None) -> datetime:
    if form in (None, "iso"):
        return datetime.fromisoformat(found)
    if form in ("epoch_s", "epoch_ms"):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            **{"seconds" if form == "epoch_s" else "milliseconds": float(found)}
        )
    return datetime.strptime(found, form)  # noqa: DTZ007 (the zone comes from the mapping)


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
