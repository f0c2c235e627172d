"""A consumer's offsets, committed with its effects: the fence by which each record's effects commit exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

Place = tuple[str, int]
"""Topic and partition."""


class FenceLostError(Exception):
    """Another process has applied these records: roll back, reload the offsets and resume there. Expected."""


@dataclass(frozen=True, slots=True)
class Position:
    """A consumer's position in one partition: `next` is the first offset not applied.

    The other fields identify the log, None if unknown: `last_record` is the fingerprint (`touchpoint.contracts.record`)
    of the last record read, at `last_offset`. There is no record between `last_offset` and `next`.
    """

    next: int
    cluster_id: str
    topic_id: UUID | None
    last_offset: int | None
    last_record: bytes | None


@dataclass(frozen=True, slots=True)
class Move:
    """An advance of the position in a partition from `start` (the stored `next`) to `end` (the last record + 1)."""

    topic: str
    partition: int
    start: int
    end: int
    last_record: bytes | None = None
    """Fingerprint of the record at `end` - 1; None if there is no record at that offset."""


# Rows are locked in a fixed order, which prevents deadlocks, then updated. A transaction that had to wait for another
# one's commit no longer matches `next`, so its row is missing in the result.
_ADVANCE = """
WITH locked AS (
    SELECT o.topic, o.partition, move."end", move.last_record
      FROM offsets o
      JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[])
           AS move (topic, partition, start, "end", last_record)
        ON o.topic = move.topic AND o.partition = move.partition AND o.next = move.start
     WHERE o.consumer = $1
     ORDER BY o.topic, o.partition
       FOR UPDATE OF o
)
UPDATE offsets
   SET next = locked."end", last_record = coalesce(locked.last_record, offsets.last_record),
       last_offset = CASE WHEN locked.last_record IS NULL THEN offsets.last_offset ELSE locked."end" - 1 END,
       updated_at = now()
  FROM locked
 WHERE offsets.consumer = $1 AND offsets.topic = locked.topic AND offsets.partition = locked.partition
RETURNING offsets.topic, offsets.partition
"""


async def load(raw: asyncpg.Connection, consumer: str) -> dict[Place, Position]:
    """All positions of the consumer."""
    rows = await raw.fetch(
        "SELECT topic, partition, next, cluster_id, topic_id, last_offset, last_record FROM offsets "
        "WHERE consumer = $1",
        consumer,
    )
    return {(topic, partition): Position(*rest) for topic, partition, *rest in rows}


async def create(raw: asyncpg.Connection, consumer: str, cluster_id: str, begins: Iterable[tuple[Place, int]]) -> None:
    """Store the start of the log as position of new partitions; existing positions stay unchanged."""
    await raw.executemany(
        "INSERT INTO offsets (consumer, cluster_id, topic, partition, next) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING",
        [(consumer, cluster_id, *place, begin) for place, begin in begins],
    )


async def learn(raw: asyncpg.Connection, consumer: str, positions: Mapping[Place, Position]) -> None:
    """Store the identity of the log (topic id, last record) for positions whose `next` is still the stored one."""
    await raw.executemany(
        """
        UPDATE offsets SET topic_id = $5, last_offset = $6, last_record = $7
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next = $4
        """,
        [(consumer, *place, p.next, p.topic_id, p.last_offset, p.last_record) for place, p in positions.items()],
    )


async def advance(raw: asyncpg.Connection, consumer: str, moves: Sequence[Move]) -> None:
    """Advance the positions of all partitions in a batch; raises FenceLostError if another process has moved one."""
    rows = [(move.topic, move.partition, move.start, move.end, move.last_record) for move in moves]
    moved = await raw.fetch(_ADVANCE, consumer, *map(list, zip(*rows, strict=True)))
    advanced = {(row["topic"], row["partition"]) for row in moved}
    lost = [move for move in moves if (move.topic, move.partition) not in advanced]
    if lost:
        raise FenceLostError(f"{lost[0].topic}/{lost[0].partition} is no longer at {lost[0].start}")


async def hold(raw: asyncpg.Connection) -> None:
    """Block consumers and timers until this transaction ends: they wait before their first lock and apply nothing.

    This call waits for batches in progress. Reading offsets is not blocked.
    """
    await raw.execute("LOCK TABLE offsets IN SHARE ROW EXCLUSIVE MODE")


async def take_part(raw: asyncpg.Connection) -> None:
    """Wait while writers are blocked by `hold`; for work beside the consumer that changes what a rebuild replaces."""
    await raw.execute("LOCK TABLE offsets IN ROW EXCLUSIVE MODE")


async def mark_inbox_whole(raw: asyncpg.Connection, consumer: str) -> None:
    """Record that the inbox is complete from offset 0 on, as it was rebuilt from the whole log."""
    await raw.execute("UPDATE offsets SET inbox_from = 0 WHERE consumer = $1 AND inbox_from > 0", consumer)


async def mark_read_through(
    raw: asyncpg.Connection, consumer: str, reached: Sequence[tuple[str, int, int, datetime]]
) -> None:
    """Store, for each (topic, partition, next, moment), that all records appended before `moment` are applied.

    Nothing is stored if `next` is not the stored position, as then another process owns the partition. An earlier
    moment replaces a later one: PostgreSQL's clock was ahead and has been set back.
    """
    await raw.execute(
        """
        UPDATE offsets SET read_through = reached.moment
          FROM unnest($2::text[], $3::int[], $4::bigint[], $5::timestamptz[])
               AS reached (topic, partition, next, moment)
         WHERE offsets.consumer = $1 AND offsets.topic = reached.topic
           AND offsets.partition = reached.partition AND offsets.next = reached.next
        """,
        consumer, *map(list, zip(*reached, strict=True)),
    )  # fmt: skip


async def terminate_frozen(raw: asyncpg.Connection, idle_seconds: float) -> list[int]:
    """Terminate sessions that hold row locks on positions while their client has been silent for `idle_seconds`.

    A frozen process keeps its row locks, and in the middle of a message no timeout of PostgreSQL releases them. The
    checkpoints of replays are included, as a replay locks the same rows as the consumer. Returns the pids terminated.
    """
    rows = await raw.fetch(
        """
        SELECT a.pid, pg_terminate_backend(a.pid)
          FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.database = a.datid
         WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usename = current_user
           AND l.relation IN ('offsets'::regclass, 'replay_checkpoints'::regclass)
           AND l.mode = 'RowExclusiveLock' AND l.granted
           AND a.wait_event_type = 'Client' AND a.state_change < clock_timestamp() - make_interval(secs => $1)
        """,
        idle_seconds,
    )
    return [row["pid"] for row in rows]
