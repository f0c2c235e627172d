"""Counts, for a plan, the outcomes its records would have if they were replayed now."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer

from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record, attributes, owner_of
from touchpoint.db import erasures, inbox
from touchpoint.db.replays import Range
from touchpoint.kafka import log
from touchpoint.replay.selection import Selection

Show = Callable[[int, int], None]
"""A progress callback: (records counted, records in total)."""

APPLIED_A_SECOND, PASSED_A_SECOND = 2_000, 20_000
"""Rates for the estimate: new events applied, and records only read, per second (measured in docs/replay.md)."""

_NO_TYPE = "(no type)"


@dataclass(slots=True)
class Census:
    """Counts the outcomes records would have if they were replayed now, without decoding them."""

    raw: asyncpg.Connection
    consumer: str
    handled: frozenset[str]
    selection: Selection
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    records: int = 0
    discarded: int = 0
    _missing: set[UUID] = field(default_factory=set)
    """Ids of the missing events, so that an event sent twice counts once."""

    async def take(self, records: Sequence[Record]) -> None:
        """Count records of one partition."""
        self.records += len(records)
        matching = [
            (record, kind)
            for record in records
            if ((kind := _type(record)) in self.handled or kind == _NO_TYPE) and self.selection.matches(record)
        ]
        if not matching:
            return
        chosen = [record for record, _ in matching]
        letters = await self._letters(chosen)
        erased = await erasures.among(self.raw, {owner_of(record) for record in chosen})
        identities = [inbox.identity_of(record) for record in chosen]
        applied = await inbox.known(self.raw, self.consumer, [event for event in identities if event is not None])
        for (record, kind), event in zip(matching, identities, strict=True):
            letter = letters.get(record.offset)
            if letter == "discarded":
                self.discarded += 1
            elif owner_of(record) in erased:
                self.counts[kind]["erased"] += 1
            elif event is not None and (event in applied or event in self._missing):
                self.counts[kind]["applied"] += 1
            else:
                self.counts[kind]["dead_letters" if letter == "open" else "missing"] += 1
                if event is not None:
                    self._missing.add(event)

    def summary(self) -> dict[str, Any]:
        """The counts for the plan, by type and in total, and the estimated duration in seconds."""
        names = ("applied", "missing", "dead_letters", "erased")
        total = Counter[str]()
        for counts in self.counts.values():
            total.update(counts)
        types = {
            kind: {"matching": counts.total(), **{name: counts[name] for name in names}}
            for kind, counts in sorted(self.counts.items())
        }
        fresh = total["missing"] + total["dead_letters"]
        seconds = fresh / APPLIED_A_SECOND + self.records / PASSED_A_SECOND
        return {
            "types": types,
            "matching": total.total(),
            **{name: total[name] for name in names},
            "discarded": self.discarded,
            "estimated_seconds": round(seconds, 1),
        }

    async def _letters(self, records: Sequence[Record]) -> dict[int, str]:
        rows = await self.raw.fetch(
            'SELECT "offset", state FROM dead_letters '
            'WHERE consumer = $1 AND topic = $2 AND partition = $3 AND "offset" BETWEEN $4 AND $5',
            self.consumer, records[0].topic, records[0].partition, records[0].offset, records[-1].offset,
        )  # fmt: skip
        return {row["offset"]: row["state"] for row in rows}


def _type(record: Record) -> str:
    return (attributes(record.headers).get("ce_type") or b"").decode(errors="replace") or _NO_TYPE


async def count(
    kafka: AIOKafkaConsumer, settings: KafkaSettings, ranges: Sequence[Range], census: Census, show: Show
) -> None:
    """Count the records of these ranges, one range after the other. Raises UnreachableError if no records arrive."""
    total, passed = sum(span.end - span.start for span in ranges), 0
    for span in ranges:
        spans = {(span.topic, span.partition): (span.start, span.end)}
        async for records in log.read(kafka, settings.topic_prefix, spans):
            await census.take(records)
            show(passed + records[-1].offset + 1 - span.start, total)
        passed += span.end - span.start
        show(passed, total)
