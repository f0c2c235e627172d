"""SQL for clocks: sets of rows for the consumer and the timer, single rows for the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks.decisions import Clock, clock_id
from escalation_svc.clocks.models import CLOCKS
from touchpoint.base.errors import TransientError
from touchpoint.db import offsets
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
"""`wake_at` must be strictly before `read_through`: events appended exactly at `read_through` may not be applied yet.
A null `read_through` (nothing is known about the partition) needs its own condition, because `least` ignores nulls. A
ticket whose events named several customers has events in several partitions: all of them must have been read so far."""

COUNT_OVERDUE = """
SELECT count(*) FROM (
    SELECT 1 FROM offsets JOIN clocks USING (topic, partition)
     WHERE consumer = $1 AND wake_at < now() AND due_at < now()
     LIMIT 10000
)
"""
"""Limited, because after a long outage counting all of them would take longer than the timer's interval."""


@dataclass(frozen=True, slots=True)
class Due:
    """A clock on which the timer must act: all events before `until` have been applied. `now` is PostgreSQL's time."""

    clock: Clock
    until: datetime
    now: datetime

    @property
    def lateness(self) -> float:
        """Seconds since the timer could act: since the clock was due or, if later, since its cause was recorded."""
        assert self.clock.wake_at
        assert self.clock.cause
        return (self.now - max(self.clock.wake_at, self.clock.cause.recorded)).total_seconds()


async def lock_due_clocks(session: AsyncSession, consumer: str, limit: int) -> list[Due]:
    """Lock and return due clocks. Those locked by another transaction are left to it or to the timer's next run."""
    raw = await raw_connection(session)
    await offsets.take_part(raw)
    records = [tuple(record) for record in await raw.fetch(DUE_CLOCKS, consumer, limit)]
    return [Due(CLOCKS.read(columns), until, now) for *columns, until, now in records]


async def count_overdue(session: AsyncSession, consumer: str) -> int:
    """The number of clocks past due that have not fired: the timer is late or the consumer has not read far enough."""
    raw = await raw_connection(session)
    overdue: int = await raw.fetchval(COUNT_OVERDUE, consumer)
    return overdue


async def find_clock(session: AsyncSession, tenant: str, ticket_id: str) -> Clock | None:
    """The first-response clock of a ticket; None if it has none."""
    return await CLOCKS.find(session, tenant, clock_id(tenant, ticket_id))


async def save_clocks(session: AsyncSession, clocks: Iterable[Clock]) -> None:
    """Store the clocks that changed. Existing rows must have been locked.

    Raises TransientError when a consumer of another partition inserted a new clock's row first, which happens when
    events of one ticket name two customers.
    """
    changed = [clock for clock in clocks if clock.version != clock.stored]
    new = [clock for clock in changed if clock.stored == 0]
    if len(await CLOCKS.insert_missing(session, new)) < len(new):
        raise TransientError("a clock was stored by another partition at the same time")
    await CLOCKS.update(session, [clock for clock in changed if clock.stored])
