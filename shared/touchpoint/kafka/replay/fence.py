"""A replay's checkpoint: the fence of its batches, and its counts, committed with the effects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from touchpoint.db import erasures
from touchpoint.db.erasures import Customer
from touchpoint.db.inbox import Claimed
from touchpoint.db.offsets import FenceLostError, Move, Place
from touchpoint.kafka.batch import Entry, outcomes
from touchpoint.kafka.replay.selection import owner_of

_COUNTED = {
    "applied": "applied",
    "duplicate": "already_applied",
    "conflict": "already_applied",
    "dead_lettered": "failed",
    "erased": "erased",
}
"""The count each outcome of a batch belongs to. The id of a conflict is applied, with another payload."""

# While it is not running nobody may move it on; who pauses or aborts it waits for a batch that is being committed.
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

_DISCARDED = """
SELECT d.topic, d.partition, d."offset"
  FROM dead_letters d
  JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS part (topic, partition, first, last)
    ON d.topic = part.topic AND d.partition = part.partition AND d."offset" BETWEEN part.first AND part.last
 WHERE d.consumer = $1 AND d.state = 'discarded'
"""

# The inbox says whether a dead letter's event is applied by now; under the id of a conflict it is another one.
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


@dataclass(frozen=True, slots=True)
class ReplayFence:
    """The fence of one replay. What was erased or discarded is not let through."""

    replay_id: UUID
    consumer: str

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Move the checkpoint on while the replay is running; raises FenceLostError else."""
        await self.advance(raw, moves)
        discarded = {tuple(row) for row in await raw.fetch(_DISCARDED, self.consumer, *_spans(part))}
        await erasures.hold(raw)
        erased = await erasures.among(raw, {customer for entry in part if (customer := _customer(entry)) is not None})
        return [_admitted(entry, discarded, erased) for entry in part]

    async def advance(self, raw: asyncpg.Connection, moves: Sequence[Move]) -> None:
        """Move on in these partitions; raises FenceLostError where the replay stands elsewhere, or does not run."""
        rows = [(move.topic, move.partition, move.start, move.end) for move in moves]
        moved = await raw.fetch(_ADVANCE, self.replay_id, *map(list, zip(*rows, strict=True)))
        if len(moved) < len(moves):
            raise FenceLostError(f"replay {self.replay_id} was stopped, or is worked on by another")

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Count what became of the entries, and close the dead letters of those applied."""
        counts: dict[Place, Counter[str]] = {}
        for entry, outcome in outcomes(part, claimed):
            if outcome in _COUNTED:
                counts.setdefault(_place(entry), Counter())[_COUNTED[outcome]] += 1
        if not counts:
            return
        rows = [
            (*place, n.total(), n["applied"], n["already_applied"], n["failed"], n["erased"])
            for place, n in sorted(counts.items())
        ]
        await raw.execute(_COUNT, self.replay_id, *map(list, zip(*rows, strict=True)))
        await raw.execute(_CLOSE_LETTERS, self.consumer, *_spans(part), str(self.replay_id))


def _admitted(entry: Entry, discarded: set[tuple[object, ...]], erased: set[Customer]) -> Entry:
    """The entry, or what is left of it: a discarded one is none of ours, an erased customer's is only counted."""
    record = entry.record
    if discarded and (record.topic, record.partition, record.offset) in discarded:
        return Entry(record)
    if erased and _customer(entry) in erased:
        return Entry(record, settled="erased")
    return entry


def _customer(entry: Entry) -> Customer | None:
    """Whom an entry is about; of what cannot be read, by its key."""
    if entry.event is not None:
        customer: str | None = getattr(entry.event, "customer_id", None)
        return None if customer is None else (entry.event.meta.tenant, customer)
    if entry.dead is None and entry.settled is None:
        return None
    return owner_of(entry.record)


def _place(entry: Entry) -> Place:
    return entry.record.topic, entry.record.partition


def _spans(part: Sequence[Entry]) -> list[list[str | int]]:
    """By partition, the first and the last offset: four columns."""
    spans: dict[Place, tuple[int, int]] = {}
    for entry in part:
        offset = entry.record.offset
        first, _ = spans.setdefault(_place(entry), (offset, offset))
        spans[_place(entry)] = first, offset
    return list(map(list, zip(*((*place, *span) for place, span in spans.items()), strict=True)))
