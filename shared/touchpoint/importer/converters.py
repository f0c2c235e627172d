"""The converters that a mapping can name with `as`: from a value of the file to a value of the event contract.

Each takes a value that is not null, returns null for a blank one, and raises ValueError with the reason when the value
cannot be converted.
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
    """A scalar value as trimmed text; blank becomes null."""
    if isinstance(value, dict | list):
        raise ValueError(f"{_shown(value)} is not a plain value but a list or an object")
    return (value if isinstance(value, str) else json.dumps(value)).strip() or None


def lower(value: Any) -> str | None:
    """Text in lower case."""
    trimmed = text(value)
    return trimmed and trimmed.lower()


def number(value: Any) -> float | int | None:
    """A number; its decimal separator is a point."""
    written = text(value)
    if written is None:
        return None
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", written, re.ASCII):
        raise ValueError(f"{_shown(value)} is not a number")
    return int(written) if re.fullmatch(r"[+-]?\d{1,15}", written) else float(written)


def boolean(value: Any) -> bool | None:
    """true, yes, y or 1; false, no, n or 0; in any case."""
    written = lower(value)
    if written is None:
        return None
    if written not in _TRUTH:
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return _TRUTH[written]


def texts(value: Any) -> list[str]:
    """A list of texts, or one text split at commas and semicolons; blank items are dropped."""
    parts = value if isinstance(value, list) else re.split("[,;]", text(value) or "")
    return [item for item in map(text, parts) if item]


def duration(value: Any) -> float | None:
    """A duration in seconds, from a number of seconds, `hh:mm:ss`, or ISO 8601 such as `PT1H30M`."""
    written = text(value)
    if written is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", written, re.ASCII):
        return float(written)
    match = _CLOCK.fullmatch(written) or (_ISO_DURATION.fullmatch(written) if written not in ("P", "PT") else None)
    if match is None:
        raise ValueError(f"{_shown(value)} is not a duration: seconds, hh:mm:ss or ISO 8601 (PT1H30M)")
    parts = {name: float(part) for name, part in match.groupdict().items() if part}
    return parts.get("d", 0) * 86400 + parts.get("h", 0) * 3600 + parts.get("m", 0) * 60 + parts.get("s", 0)


def sha256_id(value: Any) -> str:
    """A stable id that does not reveal the value: the first 32 hex digits of a SHA-256 of the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def moment(value: Any, form: str | None, zone: tzinfo | None) -> datetime | None:
    """A point in time. `form`: iso (default), epoch_s, epoch_ms or a strptime format; `zone` for times without offset.

    A local time that occurred twice, because clocks went back, is read as the first. A local time that never occurred,
    because clocks went forward, is refused.
    """
    written = text(value)
    if written is None:
        return None
    try:
        parsed = _parsed(written, form)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a time as {form or 'ISO 8601'}") from None
    if not EARLIEST.year <= parsed.year < LATEST.year:
        raise ValueError(f"{_shown(value)} is not between {EARLIEST.year} and {LATEST.year - 1}")
    if parsed.tzinfo is not None:
        return parsed
    if zone is None:
        raise ValueError(f"{_shown(value)} has no offset from UTC: set `zone` in the mapping")
    placed = parsed.replace(tzinfo=zone)
    if placed.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != parsed:
        raise ValueError(f"{_shown(value)} does not exist in {zone}: clocks went forward; is the zone right?")
    return placed


def day(value: Any, form: str | None) -> str | None:
    """A date in ISO 8601. `form` of the input: iso (default) or a strptime format."""
    written = text(value)
    if written is None:
        return None
    try:
        parsed = date.fromisoformat(written) if form in (None, "iso") else datetime.strptime(written, form).date()  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        raise ValueError(f"{_shown(value)} is not a date as {form or 'ISO 8601'}") from None
    return parsed.isoformat()


PLAIN: dict[str, Callable[[Any], Any]] = {
    "text": text,
    "lower": lower,
    "number": number,
    "boolean": boolean,
    "list": texts,
    "duration": duration,
    "sha256_id": sha256_id,
}
"""Converters that take only the value, by name. `time` and `date` also take a format, `time` also a zone."""


def _parsed(written: str, form: str | None) -> datetime:
    if form in (None, "iso"):
        return datetime.fromisoformat(written)
    if form in ("epoch_s", "epoch_ms"):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            **{"seconds" if form == "epoch_s" else "milliseconds": float(written)}
        )
    return datetime.strptime(written, form)  # noqa: DTZ007 (the zone comes from the mapping)


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
