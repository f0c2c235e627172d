"""Translates a record into events and validates them by the contracts that the gateway uses."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
from pydantic import ValidationError

from touchpoint.contracts.order import CLOCKS_DIFFER
from touchpoint.contracts.reasons import reason
from touchpoint.importer import converters
from touchpoint.importer.mapping import TYPES, EventRule, Mapping
from touchpoint.importer.rules import Rule, search

_IDS = uuid5(NAMESPACE_URL, "urn:touchpoint:import")


class RecordError(Exception):
    """The record cannot be translated; the message names the event, the field and the reason."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Applies a mapping to records. Events later than `now` are refused."""

    mapping: Mapping
    now: datetime

    def events(self, record: Any) -> list[bytes]:
        """The record's events as structured CloudEvents, sorted by time. Raises RecordError.

        All events or none: an incomplete record would be wrong, such as a ticket closed but never opened.
        """
        record_id = self._text("id", self.mapping.id, record)
        if record_id is None:
            raise RecordError("id: no value; without an id, importing twice would count the record twice")
        made = [made for rule in self.mapping.events for made in self._of_rule(rule, record, record_id)]
        return [encoded for _, encoded in sorted(made, key=lambda pair: pair[0])]

    def _of_rule(self, rule: EventRule, record: Any, record_id: str) -> Iterator[tuple[datetime, bytes]]:
        for place, view, key in self._views(rule, record):
            if rule.when is None or _holds(self._search(f"{place}.when", rule.when, view)):
                yield self._event(rule, place, view, (self.mapping.source, record_id, rule.name, *key))

    def _views(self, rule: EventRule, record: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """Yields name, input of the rule's expressions and key for the id: of the record, or of each item."""
        if rule.each is None:
            yield rule.name, record, ()
            return
        items = self._search(f"{rule.name}.each", rule.each, record)
        if not isinstance(items, list | None):
            raise RecordError(f"{rule.name}.each: the value is not a list")
        for index, item in enumerate(items or ()):
            view = {"record": record, "item": item, "index": index}
            key = self._text(f"{rule.name}.id", rule.id, view) if rule.id else str(index)
            if key is None:
                raise RecordError(f"{rule.name}[{index}].id: no value")
            yield f"{rule.name}[{index}]", view, (key,)

    def _event(self, rule: EventRule, place: str, view: Any, key: tuple[str, ...]) -> tuple[datetime, bytes]:
        time = self._time(rule, place, view)
        data: dict[str, Any] = {}
        for name, field in rule.data.items():
            value = self._value(f"{place}.{name}", field, view)
            if value is not None:
                _put(data, name.split("."), _timestamp(value) if isinstance(value, datetime) else value)
        try:
            encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
            event_id = uuid5(_IDS, "\x1f".join(key))
            broken = TYPES[rule.type].read(encoded).broken_rules()
        except UnicodeEncodeError:
            raise RecordError(f"{place}: contains bytes that are not valid text; is csv.encoding right?") from None
        except ValidationError as error:
            reasons = [f"{place}.{'.'.join(map(str, each['loc']))}: {reason(each)}" for each in error.errors()]
            raise RecordError("; ".join(reasons[:5])) from None
        if broken:
            raise RecordError("; ".join(f"{place}.{each.field}: {each.reason}" for each in broken))
        event = {
            "specversion": "1.0",
            "id": str(event_id),
            "source": self.mapping.source,
            "type": rule.type,
            "time": _timestamp(time),
            "backfill": True,
            "data": msgspec.Raw(encoded),
        }
        return time, msgspec.json.encode(event)

    def _time(self, rule: EventRule, place: str, view: Any) -> datetime:
        time = self._value(f"{place}.time", rule.time, view)
        if not isinstance(time, datetime):
            raise RecordError(f"{place}.time: no value")
        if rule.time.plus is not None:
            seconds = self._value(f"{place}.time.plus", rule.time.plus, view)
            if not isinstance(seconds, int | float):
                raise RecordError(f"{place}.time.plus: must be a number of seconds")
            try:
                time += timedelta(seconds=seconds)
            except OverflowError:
                raise RecordError(f"{place}.time.plus: {seconds} seconds are too many") from None
        if time > self.now + CLOCKS_DIFFER:
            raise RecordError(f"{place}.time: {time} is in the future")
        return time

    def _text(self, place: str, rule: Rule, view: Any) -> str | None:
        value = self._value(place, rule, view)
        try:
            return None if value is None else converters.text(value)
        except ValueError as error:
            raise RecordError(f"{place}: {error}") from None

    def _value(self, place: str, rule: Rule, view: Any) -> Any:
        try:
            return rule.value(view, self.mapping.zone)
        except ValueError as error:
            raise RecordError(f"{place}: {error}") from None

    def _search(self, place: str, expression: Any, view: Any) -> Any:
        try:
            return search(expression, view)
        except ValueError as error:
            raise RecordError(f"{place}: {error}") from None


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _put(data: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        data = data.setdefault(step, {})
    data[steps[-1]] = value


def _holds(value: Any) -> bool:
    """JMESPath's truth: false, null, empty text, list and object are false; all others, 0 included, are true."""
    return value is not None and value is not False and value not in ("", [], {})
