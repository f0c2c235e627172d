"""Rows of clocks in and out of PostgreSQL: in sets for batches and the timer, one by one for the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks.decisions import Clock, clock_id
from escalation_svc.clocks.models import CLOCKS
from touchpoint.base.errors import TransientError
from touchpoint.db.engine import raw_connection

DUE_CLOCKS = f"""
SELECT {CLOCKS.select}, least(now(), read_through, others.read) AS until, now() AS now
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


async def lock_due_clocks(session: AsyncSession, consumer: str, limit: int) -> list[Due]:
    """Clocks to wake, locked; those that another transaction has locked are left to it or to the next look."""
    raw = await raw_connection(session)
    records = [tuple(record) for record in await raw.fetch(DUE_CLOCKS, consumer, limit)]
    return [Due(CLOCKS.read(columns), until, now) for *columns, until, now in records]


async def count_overdue(session: AsyncSession, consumer: str) -> int:
    """Clocks past due that have not fired, because the timer is late or their consumer has not read so far."""
    raw = await raw_connection(session)
    overdue: int = await raw.fetchval(COUNT_OVERDUE, consumer)
    return overdue


async def find_clock(session: AsyncSession, tenant: str, ticket_id: str) -> Clock | None:
    """The first-response clock of a ticket."""
    return await CLOCKS.find(session, tenant, clock_id(tenant, ticket_id))


async def save_clocks(session: AsyncSession, clocks: Iterable[Clock]) -> None:
    """Store the clocks that changed; those with a row must have been locked.

    Raises TransientError when another partition brought a clock's first row meanwhile: its ticket has two customers.
    """
    changed = [clock for clock in clocks if clock.version != clock.stored]
    new = [clock for clock in changed if clock.stored == 0]
    if len(await CLOCKS.insert_missing(session, new)) < len(new):
        raise TransientError("a clock was stored by another partition at the same time")
    await CLOCKS.update(session, [clock for clock in changed if clock.stored])
