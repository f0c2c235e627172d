"""A consumer's offsets, kept beside its effects: the fence that lets each record's effects commit exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

Place = tuple[str, int]
"""A topic and a partition."""


class FenceLostError(Exception):
    """Someone else has applied these records: roll back, read the offsets again, go on from there. Normal life."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a consumer stands in one partition: `next` is the first offset not yet applied.

    The rest says which log that is, None where it is not known: `last_record` is the fingerprint
    (`touchpoint.contracts.record`) of the last record read, at `last_offset`. Between that and `next` no record lies.
    """

    next: int
    cluster_id: str
    topic_id: UUID | None
    last_offset: int | None
    last_record: bytes | None


@dataclass(frozen=True, slots=True)
class Move:
    """Records from `start` (the `next` last stored) up to `end` (the last record + 1) of a partition are applied."""

    topic: str
    partition: int
    start: int
    end: int
    last_record: bytes | None = None
    """The fingerprint of the record before `end`; None where no record lies there."""


# Locked in one order whoever locks, then moved. Who waited for another's commit finds `next` elsewhere, and no row.
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
    """All the consumer's positions."""
    rows = await raw.fetch(
        "SELECT topic, partition, next, cluster_id, topic_id, last_offset, last_record FROM offsets "
        "WHERE consumer = $1",
        consumer,
    )
    return {(topic, partition): Position(*rest) for topic, partition, *rest in rows}


async def create(raw: asyncpg.Connection, consumer: str, cluster_id: str, begins: Iterable[tuple[Place, int]]) -> None:
    """Give partitions seen for the first time a row at the log's start; one that exists stays as it is."""
    await raw.executemany(
        "INSERT INTO offsets (consumer, cluster_id, topic, partition, next) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING",
        [(consumer, cluster_id, *place, begin) for place, begin in begins],
    )


async def learn(raw: asyncpg.Connection, consumer: str, found: Mapping[Place, Position]) -> None:
    """Note which log it is, where the row still stands at `next`."""
    await raw.executemany(
        """
        UPDATE offsets SET topic_id = $5, last_offset = $6, last_record = $7
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next = $4
        """,
        [(consumer, *place, p.next, p.topic_id, p.last_offset, p.last_record) for place, p in found.items()],
    )


async def advance(raw: asyncpg.Connection, consumer: str, moves: Sequence[Move]) -> None:
    """Move the fence of every partition in the batch, locking in one order; raises FenceLostError if any has moved."""
    rows = [(move.topic, move.partition, move.start, move.end, move.last_record) for move in moves]
    moved = await raw.fetch(_ADVANCE, consumer, *map(list, zip(*rows, strict=True)))
    standing = {(row["topic"], row["partition"]) for row in moved}
    lost = [move for move in moves if (move.topic, move.partition) not in standing]
    if lost:
        raise FenceLostError(f"{lost[0].topic}/{lost[0].partition} is no longer at {lost[0].start}")


async def hold(raw: asyncpg.Connection) -> None:
    """Until this transaction ends no consumer moves on, nor applies anything: it waits before its first lock.

    Waits itself for the batches under way. Who only reads offsets does not notice.
    """
    await raw.execute("LOCK TABLE offsets IN SHARE ROW EXCLUSIVE MODE")


async def mark_inbox_whole(raw: asyncpg.Connection, consumer: str) -> None:
    """The inbox knows of everything that was ever applied: it was made anew."""
    await raw.execute("UPDATE offsets SET inbox_from = 0 WHERE consumer = $1 AND inbox_from > 0", consumer)


async def mark_read_through(
    raw: asyncpg.Connection, consumer: str, reached: Sequence[tuple[str, int, int, datetime]]
) -> None:
    """Note for (topic, partition, next, moment) that all that was appended before `moment` has been applied.

    It holds only while `next` is where the row stands: whoever has lost the partition writes nothing. A moment before
    the one that stands there replaces it: PostgreSQL's clock was ahead then, and has been set back.
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
    """End the sessions that hold a fence's lock while waiting for a client that has been silent this long.

    A frozen process keeps its row locks, and inside a half-sent message no timeout of PostgreSQL frees them. A replay
    works on the same rows as the consumer, behind a fence of its own. Answers the process ids ended.
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
