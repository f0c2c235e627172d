"""Selects the records of a replay: by headers and key, without decoding the value."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from touchpoint.base import parsing
from touchpoint.base.errors import UsageError
from touchpoint.contracts.record import Record, attributes, owner_of
from touchpoint.db.offsets import Place


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filter by event types, tenant and customer; an unset field matches all."""

    types: tuple[str, ...] = ()
    tenant: str | None = None
    customer: str | None = None

    def matches(self, record: Record) -> bool:
        """Whether the record matches, by its headers and its key, which begins with tenant and customer."""
        if not (self.types or self.tenant or self.customer):
            return True
        headers = attributes(record.headers)
        if self.types and (headers.get("ce_type") or b"").decode(errors="replace") not in self.types:
            return False
        if self.tenant is not None and headers.get("ce_tenant") != self.tenant.encode():
            return False
        return self.customer is None or owner_of(record)[1] == self.customer


@dataclass(frozen=True, slots=True)
class Bound:
    """The start or end of a window: a time, and for some partitions an offset instead."""

    moment: datetime | None = None
    places: Mapping[Place, int] = field(default_factory=dict)

    @classmethod
    def of(cls, written: Sequence[str]) -> "Bound":
        """Parse one end of a window: at most one time, and offsets (topic/partition/offset) for their partitions.

        Raises UsageError on two times, and on a text that is neither.
        """
        parsed = {text: parsing.place(text) for text in written}
        times = [text for text, place in parsed.items() if place is None]
        if len(times) > 1:
            raise UsageError(f"two times for one end of the window: {' and '.join(times)}")
        places = {place[:2]: place[2] for place in parsed.values() if place is not None}
        return cls(parsing.moment(times[0]) if times else None, places)

    @property
    def as_texts(self) -> list[str]:
        """The bound as `of` parses it."""
        places = [f"{topic}/{partition}/{offset}" for (topic, partition), offset in sorted(self.places.items())]
        return [self.moment.isoformat(), *places] if self.moment else places


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (inclusive) to `until` (exclusive). `partitions`: only these; empty: all."""

    since: Bound
    until: Bound = Bound()
    partitions: Collection[int] = ()
