"""Which records a replay is about: a filter on what a record says of itself, before anything is decoded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from touchpoint.base import parsing as words
from touchpoint.base.errors import UsageError
from touchpoint.contracts.record import Record, attributes, owner_of
from touchpoint.db.offsets import Place


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Types, a tenant and one of its customers; what is not named is not asked."""

    types: tuple[str, ...] = ()
    tenant: str | None = None
    customer: str | None = None

    def matches(self, record: Record) -> bool:
        """Whether a record is meant: by its headers, and by its key, which begins with tenant and customer."""
        if not (self.types or self.tenant or self.customer):
            return True
        found = attributes(record.headers)
        if self.types and (found.get("ce_type") or b"").decode(errors="replace") not in self.types:
            return False
        if self.tenant is not None and found.get("ce_tenant") != self.tenant.encode():
            return False
        return self.customer is None or owner_of(record)[1] == self.customer


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a window begins or ends: at a time, and in some partitions at an offset instead."""

    moment: datetime | None = None
    places: Mapping[Place, int] = field(default_factory=dict)

    @classmethod
    def of(cls, written: Sequence[str]) -> "Bound":
        """One end of a window from words: a time, and places in the log (topic/partition/offset) for their partitions.

        Raises UsageError on two times, and on what is neither.
        """
        found = {word: words.place(word) for word in written}
        times = [word for word, place in found.items() if place is None]
        if len(times) > 1:
            raise UsageError(f"two times for one end of the window: {' and '.join(times)}")
        places = {place[:2]: place[2] for place in found.values() if place is not None}
        return cls(words.moment(times[0]) if times else None, places)

    @property
    def words(self) -> list[str]:
        """What `of` reads."""
        places = [f"{topic}/{partition}/{offset}" for (topic, partition), offset in sorted(self.places.items())]
        return [self.moment.isoformat(), *places] if self.moment else places


@dataclass(frozen=True, slots=True)
class Window:
    """From one bound up to another, which is outside; `partitions`: only these, unless it is empty."""

    since: Bound
    until: Bound = Bound()
    partitions: Collection[int] = ()
