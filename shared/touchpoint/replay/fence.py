"""A replay's checkpoint: it fences the batches, and is committed with their effects and counts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

import asyncpg

from touchpoint.contracts.record import Record, owner_of
from touchpoint.db import erasures, inbox
from touchpoint.db.erasures import Customer
from touchpoint.db.inbox import Claimed
from touchpoint.db.offsets import FenceLostError, Move, Place
from touchpoint.db.shadow import Shadow
from touchpoint.kafka.batch import Entry, outcomes

SAMPLE = 16
"""Every 16th record is looked up in the inbox, to see whether the events read were applied before."""

_COUNTED = {
    "applied": "applied",
    "duplicate": "already_applied",
    "conflict": "already_applied",
    "dead_lettered": "failed",
    "erased": "erased",
}
"""The count for each outcome of a batch. A conflict is an id that was applied with another payload."""

# Advances only while the replay is running; FOR SHARE makes pause and abort wait for a batch being committed.
_ADVANCE = """
WITH going AS (SELECT id FROM replays WHERE id = $1 AND state = 'running' FOR SHARE)
UPDATE replay_checkpoints c SET next = move."end"
  FROM going, unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS move (topic, partition, start, "end")
 WHERE c.replay_id = going.id AND c.topic = move.topic AND c.partition = move.partition AND c.next = move.start
RETURNING c.partition
"""

_COUNT = """
UPDATE replay_checkpoints c
   SET matched = c.matched + n.matched, applied = c.applied + n.applied,
       already_applied = c.already_applied + n.already_applied, failed = c.failed + n.failed,
       erased = c.erased + n.erased
  FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
       AS n (topic, partition, matched, applied, already_applied, failed, erased)
 WHERE c.replay_id = $1 AND c.topic = n.topic AND c.partition = n.partition
"""

_LEFT_OUT = """
SELECT d.topic, d.partition, d."offset"
  FROM dead_letters d
  JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS part (topic, partition, first, last)
    ON d.topic = part.topic AND d.partition = part.partition AND d."offset" BETWEEN part.first AND part.last
 WHERE d.consumer = $1 AND d.state = ANY($6)
"""

# The inbox shows whether a dead letter's event is applied by now. In a conflict, another event has its id: excluded.
_CLOSE_LETTERS = """
UPDATE dead_letters d SET state = 'redriven', closed_at = now(), closed_reason = 'replay ' || $6
  FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS part (topic, partition, first, last)
 WHERE d.consumer = $1 AND d.state = 'open'
   AND d.topic = part.topic AND d.partition = part.partition AND d."offset" BETWEEN part.first AND part.last
   AND EXISTS (SELECT 1 FROM inbox i WHERE i.consumer = d.consumer AND i.event_id = d.event_id)
   AND NOT EXISTS (
       SELECT 1 FROM conflicts c
        WHERE c.consumer = d.consumer AND c.topic = d.topic AND c.partition = d.partition AND c."offset" = d."offset")
"""


@dataclass(frozen=True)
class ReplayFence:
    """The fence of a repair or a redrive. Erased customers' events and discarded dead letters are not applied."""

    replay_id: UUID
    consumer: str
    left_out: ClassVar[list[str]] = ["discarded"]
    """Dead letters in these states are not applied."""

    async def settled(self, raw: asyncpg.Connection, records: Sequence[Record]) -> set[int]:
        """The offsets of those records, of one partition, that need no decoding because they were applied before.

        If a sample shows none, the rest is not looked up but claimed when applied: looking up only pays where most were
        applied.
        """
        sample = records[::SAMPLE]
        applied = await inbox.applied(raw, self.consumer, sample)
        return await inbox.applied(raw, self.consumer, records) if applied else applied

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Advance the checkpoint; raises FenceLostError if the replay is not running."""
        await self.advance(raw, moves)
        await erasures.hold(raw)
        return await self.admit(raw, part)

    async def admit(self, raw: asyncpg.Connection, part: Sequence[Entry]) -> Sequence[Entry]:
        """The entries, with those that must not be applied replaced."""
        left_out = {tuple(row) for row in await raw.fetch(_LEFT_OUT, self.consumer, *_spans(part), self.left_out)}
        erased = await erasures.among(raw, {customer for entry in part if (customer := _customer(entry)) is not None})
        return [_admitted(entry, left_out, erased) for entry in part]

    async def advance(self, raw: asyncpg.Connection, moves: Sequence[Move]) -> None:
        """Advance these partitions; raises FenceLostError if their checkpoint differs or the replay is not running."""
        rows = [(move.topic, move.partition, move.start, move.end) for move in moves]
        moved = await raw.fetch(_ADVANCE, self.replay_id, *map(list, zip(*rows, strict=True)))
        if len(moved) < len(moves):
            raise FenceLostError(f"replay {self.replay_id} was stopped, or another worker runs it")

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Count the outcomes of the entries, and close the dead letters of those applied."""
        if await self.count(raw, part, claimed):
            await raw.execute(_CLOSE_LETTERS, self.consumer, *_spans(part), str(self.replay_id))

    async def count(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> bool:
        """Count the outcomes of the entries; False if there was nothing to count."""
        counts: dict[Place, Counter[str]] = {}
        for entry, outcome in outcomes(part, claimed):
            if outcome in _COUNTED:
                counts.setdefault(_place(entry), Counter())[_COUNTED[outcome]] += 1
        if not counts:
            return False
        rows = [
            (*place, n.total(), n["applied"], n["already_applied"], n["failed"], n["erased"])
            for place, n in sorted(counts.items())
        ]
        await raw.execute(_COUNT, self.replay_id, *map(list, zip(*rows, strict=True)))
        return True


@dataclass(frozen=True)
class ShadowFence(ReplayFence):
    """The fence of a rebuild: after `open`, the transaction works on the tables of the shadow schema.

    Dead letters keep their state. Of an id with two payloads, the one applied before is applied again, because its
    effects were published.
    """

    shadow: Shadow
    left_out: ClassVar[list[str]] = ["open", "discarded"]

    async def settled(self, raw: asyncpg.Connection, records: Sequence[Record]) -> set[int]:
        """The offsets of duplicates: their event was applied from another offset, and is applied again from there."""
        return await inbox.applied_elsewhere(raw, self.consumer, records)

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Advance the checkpoint and switch to the shadow schema."""
        admitted = await super().open(raw, part, moves)
        await self.shadow.enter(raw)
        return admitted

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Switch back to the live schema and count."""
        await self.shadow.leave(raw)
        await self.count(raw, part, claimed)


@dataclass(frozen=True)
class TrialFence(ShadowFence):
    """The fence of a comparison, which is rolled back: it moves no checkpoint, and blocks neither pause nor erasure."""

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Switch to the shadow schema."""
        admitted = await self.admit(raw, part)
        await self.shadow.enter(raw)
        return admitted

    async def advance(self, raw: asyncpg.Connection, moves: Sequence[Move]) -> None:
        """Do nothing: the checkpoint stays."""

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Switch back to the live schema."""
        await self.shadow.leave(raw)


def _admitted(entry: Entry, left_out: set[tuple[object, ...]], erased: set[Customer]) -> Entry:
    """The entry; an ignored one if it is left out; an `erased` one, only counted, if its customer was erased."""
    record = entry.record
    if left_out and (record.topic, record.partition, record.offset) in left_out:
        return Entry(record)
    if erased and _customer(entry) in erased:
        return Entry(record, settled="erased")
    return entry


def _customer(entry: Entry) -> Customer | None:
    """The customer of an entry; for a record that cannot be decoded, the one in its key."""
    if entry.event is not None:
        customer: str | None = getattr(entry.event, "customer_id", None)
        return None if customer is None else (entry.event.meta.tenant, customer)
    if entry.dead is None and entry.settled is None:
        return None
    return owner_of(entry.record)


def _place(entry: Entry) -> Place:
    return entry.record.topic, entry.record.partition


def _spans(part: Sequence[Entry]) -> list[list[str | int]]:
    """The first and last offset per partition, as four columns: topic, partition, first, last."""
    spans: dict[Place, tuple[int, int]] = {}
    for entry in part:
        offset = entry.record.offset
        first, _ = spans.setdefault(_place(entry), (offset, offset))
        spans[_place(entry)] = first, offset
    return list(map(list, zip(*((*place, *span) for place, span in spans.items()), strict=True)))
