"""Rows of clocks in and out of PostgreSQL: in sets for batches and the timer, one by one for the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks.decisions import Clock, ClockState, Transition, clock_id
from touchpoint.base.errors import TransientError
from touchpoint.contracts.base import Meta
from touchpoint.contracts.touchpoints import Priority
from touchpoint.db.engine import raw_connection

_CLOCK = """
SELECT clocks.tenant_id, clock_id, ticket_id, customer_id, state, priority, target_seconds, warn_at, due_at, warned,
       fulfilled_at, closed_at, cause, history, version
"""
LOAD_CLOCKS = f"""{_CLOCK}
  FROM clocks JOIN unnest($1::text[], $2::uuid[]) AS wanted (tenant_id, clock_id) USING (tenant_id, clock_id)
 ORDER BY tenant_id, clock_id
   FOR UPDATE OF clocks
"""
FIND_CLOCK = f"""{_CLOCK}
  FROM clocks WHERE tenant_id = $1 AND clock_id = $2
"""
DUE_CLOCKS = f"""{_CLOCK}, least(now(), read_through, others.read) AS until, now() AS now
  FROM offsets JOIN clocks USING (topic, partition), LATERAL (
    SELECT min(coalesce(o.read_through, '-infinity')) AS read
      FROM jsonb_to_recordset(history) AS step (cause jsonb)
      JOIN offsets AS o ON o.topic = step.cause->>'topic' AND o.partition = (step.cause->>'partition')::int
     WHERE o.consumer = $1
  ) AS others
 WHERE consumer = $1 AND read_through IS NOT NULL AND wake_at < least(now(), read_through, others.read)
 LIMIT $2
   FOR UPDATE OF clocks SKIP LOCKED
"""  # noqa: S608 (our names)
"""Strictly before: what was appended at `read_through` itself may not have been applied. Null there means that nothing
is known of the partition, but `least` passes over nulls. A ticket that has had several customers has events in several
partitions: all those known of must have been read so far."""

COUNT_OVERDUE = """
SELECT count(*) FROM (
    SELECT 1 FROM offsets JOIN clocks USING (topic, partition)
     WHERE consumer = $1 AND wake_at < now() AND due_at < now()
     LIMIT 10000
)
"""
"""Counting all of them after a long standstill would take longer than the pause between two looks."""

_CLOCK_ROWS = """
SELECT * FROM unnest(
    $1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::timestamptz[],
    $9::timestamptz[], $10::bool[], $11::timestamptz[], $12::timestamptz[], $13::jsonb[], $14::jsonb[], $15::int[],
    $16::text[], $17::int[], $18::timestamptz[]
)
"""
INSERT_CLOCKS = f"""
INSERT INTO clocks (
    tenant_id, clock_id, ticket_id, customer_id, state, priority, target_seconds, warn_at, due_at, warned,
    fulfilled_at, closed_at, cause, history, version, topic, partition, wake_at
) {_CLOCK_ROWS}
ON CONFLICT DO NOTHING
"""
_UPDATE_CLOCKS = """
UPDATE clocks SET
    customer_id = new.customer_id, state = new.state, priority = new.priority, target_seconds = new.target_seconds,
    warn_at = new.warn_at, due_at = new.due_at, warned = new.warned, fulfilled_at = new.fulfilled_at,
    closed_at = new.closed_at, cause = new.cause, history = new.history, version = new.version,
    topic = new.topic, partition = new.partition, wake_at = new.wake_at
  FROM ({rows}) AS new (
    tenant_id, clock_id, ticket_id, customer_id, state, priority, target_seconds, warn_at, due_at, warned,
    fulfilled_at, closed_at, cause, history, version, topic, partition, wake_at
  )
 WHERE clocks.tenant_id = new.tenant_id AND clocks.clock_id = new.clock_id
"""
UPDATE_CLOCKS = _UPDATE_CLOCKS.format(rows=_CLOCK_ROWS)


@dataclass(frozen=True, slots=True)
class Due:
    """A clock the timer has something to do for: all before `until` has been applied; `now` is PostgreSQL's."""

    clock: Clock
    until: datetime
    now: datetime

    @property
    def lateness(self) -> float:
        """Seconds since it could be done: since it fell due, or since its event came in, where that was later."""
        assert self.clock.wake_at
        assert self.clock.cause
        return (self.now - max(self.clock.wake_at, self.clock.cause.recorded)).total_seconds()


async def lock_clocks(session: AsyncSession, keys: Iterable[tuple[str, UUID]]) -> dict[UUID, Clock]:
    """Those of the clocks (tenant, id) that have a row, locked until the transaction ends."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    raw = await raw_connection(session)
    rows = await raw.fetch(LOAD_CLOCKS, *map(list, zip(*wanted, strict=True)))
    return {row["clock_id"]: _clock(row) for row in rows}


async def lock_due_clocks(session: AsyncSession, consumer: str, limit: int) -> list[Due]:
    """Clocks to wake, locked; those that another transaction has locked are left to it or to the next look."""
    raw = await raw_connection(session)
    rows = await raw.fetch(DUE_CLOCKS, consumer, limit)
    return [Due(_clock(row), row["until"], row["now"]) for row in rows]


async def count_overdue(session: AsyncSession, consumer: str) -> int:
    """Clocks past due that have not fired, because the timer is late or their consumer has not read so far."""
    raw = await raw_connection(session)
    found: int = await raw.fetchval(COUNT_OVERDUE, consumer)
    return found


async def find_clock(session: AsyncSession, tenant: str, ticket_id: str) -> Clock | None:
    """The first-response clock of a ticket."""
    raw = await raw_connection(session)
    row = await raw.fetchrow(FIND_CLOCK, tenant, clock_id(tenant, ticket_id))
    return row and _clock(row)


async def save_clocks(session: AsyncSession, clocks: Iterable[Clock]) -> None:
    """Store the clocks that changed; those with a row must have been locked.

    Raises TransientError when another partition brought a clock's first row meanwhile: its ticket has two customers.
    """
    raw = await raw_connection(session)
    changed = sorted((c for c in clocks if c.version != c.stored), key=lambda c: (c.tenant_id, c.clock_id))
    if new := [_clock_row(clock) for clock in changed if clock.stored == 0]:
        status = await raw.execute(INSERT_CLOCKS, *map(list, zip(*new, strict=True)))
        if status != f"INSERT 0 {len(new)}":
            raise TransientError("a clock was stored by another partition at the same time")
    if known := [_clock_row(clock) for clock in changed if clock.stored]:
        await raw.execute(UPDATE_CLOCKS, *map(list, zip(*known, strict=True)))


def _clock(row: asyncpg.Record) -> Clock:
    return Clock(
        tenant_id=row["tenant_id"],
        clock_id=row["clock_id"],
        ticket_id=row["ticket_id"],
        customer_id=row["customer_id"],
        state=ClockState(row["state"]),
        priority=Priority(row["priority"]),
        target_seconds=row["target_seconds"],
        warn_at=row["warn_at"],
        due_at=row["due_at"],
        warned=row["warned"],
        fulfilled_at=row["fulfilled_at"],
        closed_at=row["closed_at"],
        cause=msgspec.convert(row["cause"], Meta) if row["cause"] else None,
        history=msgspec.convert(row["history"], list[Transition]),
        version=row["version"],
        stored=row["version"],
    )


def _clock_row(c: Clock) -> tuple[Any, ...]:
    cause = c.cause
    return (
        c.tenant_id, c.clock_id, c.ticket_id, c.customer_id, c.state, c.priority, c.target_seconds, c.warn_at, c.due_at,
        c.warned, c.fulfilled_at, c.closed_at, cause and msgspec.json.encode(cause).decode(),
        msgspec.json.encode(c.history).decode(), c.version,
        cause and cause.topic, cause and cause.partition, c.wake_at,
    )  # fmt: skip
