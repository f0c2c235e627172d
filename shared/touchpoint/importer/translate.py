"""From a record to its events, checked here by the same contracts as at the gateway's door."""

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
    """This record cannot become events; the message says which event, which field and why."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Applies a mapping. `now` bounds the times: history does not lie in the future."""

    mapping: Mapping
    now: datetime

    def events(self, record: Any) -> list[bytes]:
        """The record's events in order of time, as structured CloudEvents; raises RecordError.

        All or none: half a record would be a lie, such as a ticket that nobody opened.
        """
        record_id = self._text("id", self.mapping.id, record)
        if record_id is None:
            raise RecordError("id: nothing there, and without it importing twice would count twice")
        made = [made for rule in self.mapping.events for made in self._of_rule(rule, record, record_id)]
        return [encoded for _, encoded in sorted(made, key=lambda pair: pair[0])]

    def _of_rule(self, rule: EventRule, record: Any, record_id: str) -> Iterator[tuple[datetime, bytes]]:
        for place, view, key in self._views(rule, record):
            if rule.when is None or _holds(self._search(f"{place}.when", rule.when, view)):
                yield self._event(rule, place, view, (self.mapping.source, record_id, rule.name, *key))

    def _views(self, rule: EventRule, record: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """What the rule's expressions see: the record, or one view per item; with its name and its part of the id."""
        if rule.each is None:
            yield rule.name, record, ()
            return
        items = self._search(f"{rule.name}.each", rule.each, record)
        if not isinstance(items, list | None):
            raise RecordError(f"{rule.name}.each: what is there is not a list")
        for index, item in enumerate(items or ()):
            view = {"record": record, "item": item, "index": index}
            key = self._text(f"{rule.name}.id", rule.id, view) if rule.id else str(index)
            if key is None:
                raise RecordError(f"{rule.name}[{index}].id: nothing there")
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
            raise RecordError(f"{place}: holds bytes that are no text; is the encoding right?") from None
        except ValidationError as error:
            found = [f"{place}.{'.'.join(map(str, each['loc']))}: {reason(each)}" for each in error.errors()]
            raise RecordError("; ".join(found[:5])) from None
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
            raise RecordError(f"{place}.time: nothing there")
        if rule.time.plus is not None:
            seconds = self._value(f"{place}.time.plus", rule.time.plus, view)
            if not isinstance(seconds, int | float):
                raise RecordError(f"{place}.time.plus: a number of seconds is needed")
            try:
                time += timedelta(seconds=seconds)
            except OverflowError:
                raise RecordError(f"{place}.time.plus: {seconds} seconds are too many") from None
        if time > self.now + CLOCKS_DIFFER:
            raise RecordError(f"{place}.time: {time} lies in the future")
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


def _holds(found: Any) -> bool:
    """Truth as JMESPath has it: false, null and what is empty do not hold, 0 does."""
    return found is not None and found is not False and found not in ("", [], {})
