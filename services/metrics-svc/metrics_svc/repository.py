"""The database of this service. Counting reads and writes whole batches, each in one statement, keys sorted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.counting import Cell, Customer, Key, Opening, Sums, Ticket
from metrics_svc.measures import Count, Dimension, Metric
from touchpoint.db.engine import raw_connection
from touchpoint.db.tenants import Tenants

READ_CUSTOMERS = """
SELECT tenant_id, customer_id, segment, tier, told::text
FROM customers JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, customer_id) USING (tenant_id, customer_id)
"""

WRITE_CUSTOMERS = """
INSERT INTO customers (tenant_id, customer_id, segment, tier, told)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
ON CONFLICT (tenant_id, customer_id)
DO UPDATE SET segment = excluded.segment, tier = excluded.tier, told = excluded.told
"""

# A ticket's events may come in two partitions when they name two customers: the row is there before it is locked, so
# that the second consumer waits for the first and then reads what it left.
CREATE_TICKETS = """
INSERT INTO tickets (tenant_id, ticket_id) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (tenant_id, ticket_id) DO NOTHING
"""

LOCK_TICKETS = """
SELECT tenant_id, ticket_id, opened_at, channel, segment, tier, replied_at, resolved_at
FROM tickets JOIN unnest($1::text[], $2::text[]) AS wanted (tenant_id, ticket_id) USING (tenant_id, ticket_id)
ORDER BY tenant_id, ticket_id FOR UPDATE OF tickets
"""

WRITE_TICKETS = """
UPDATE tickets SET (opened_at, channel, segment, tier, replied_at, resolved_at)
    = (now.opened_at, now.channel, now.segment, now.tier, now.replied_at, now.resolved_at)
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
    $8::timestamptz[]) AS now (tenant_id, ticket_id, opened_at, channel, segment, tier, replied_at, resolved_at)
WHERE tickets.tenant_id = now.tenant_id AND tickets.ticket_id = now.ticket_id
"""

ADD = """
INSERT INTO rollups (tenant_id, metric, hour, scale, channel, segment, tier, bucket, partition, n, total)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::int[], $9::int[], $10::bigint[], $11::bigint[])
ON CONFLICT (tenant_id, metric, hour, scale, channel, segment, tier, bucket, partition)
DO UPDATE SET n = rollups.n + excluded.n, total = rollups.total + excluded.total
"""

READ_COUNTS = """
SELECT {key}, array_agg(bucket) AS buckets, array_agg(n) AS ns, sum(total) AS total
  FROM (
    SELECT width_bucket(hour, $5::timestamptz[]) AS period, {columns}, bucket, sum(n) AS n, sum(total) AS total
      FROM rollups
     WHERE tenant_id = caller.tenant AND metric = $2 AND hour >= $3 AND hour < $4{only}
     GROUP BY period, {columns}, bucket
    HAVING sum(n) <> 0
  ) AS cells
 GROUP BY {key} LIMIT {limit:d}
"""


async def read_customers(session: AsyncSession, keys: Collection[Key]) -> dict[Key, Customer]:
    """What is known of these customers; the unknown are missing."""
    rows = await _fetch(session, READ_CUSTOMERS, sorted(keys))
    return {(tenant, customer): Customer(*known) for tenant, customer, *known in rows}


async def lock_tickets(session: AsyncSession, keys: Collection[Key]) -> dict[Key, Ticket]:
    """These tickets, created where they are missing; nobody else changes them until the transaction ends."""
    await _execute(session, CREATE_TICKETS, sorted(keys))
    found = {}
    for tenant, ticket, opened_at, *told, replied_at, resolved_at in await _fetch(session, LOCK_TICKETS, sorted(keys)):
        opening = Opening(opened_at, *told) if opened_at else None
        found[tenant, ticket] = Ticket(opening, replied_at, resolved_at)
    return found


async def write_customers(session: AsyncSession, customers: Mapping[Key, Customer]) -> None:
    """Store what is known of these customers now."""
    await _execute(session, WRITE_CUSTOMERS, sorted((*key, *customer) for key, customer in customers.items()))


async def write_tickets(session: AsyncSession, tickets: Mapping[Key, Ticket]) -> None:
    """Store these tickets, which `lock_tickets` gave."""
    nothing = (None, None, None, None)
    rows = [(*key, *(now.opening or nothing), now.replied_at, now.resolved_at) for key, now in tickets.items()]
    await _execute(session, WRITE_TICKETS, rows)


async def add(session: AsyncSession, cells: Mapping[Cell, Sums]) -> None:
    """Add to the rollups."""
    await _execute(session, ADD, sorted((*cell, *sums) for cell, sums in cells.items()))


async def read_counts(
    tenants: Tenants,
    tenant: str,
    metric: Metric,
    starts: Sequence[datetime],
    end: datetime,
    *,
    group_by: Sequence[Dimension],
    where: Mapping[Dimension, Collection[str]],
    limit: int,
) -> list[Count]:
    """The sums of a tenant's metric in the periods that begin at `starts`, the last of which ends at `end`."""
    key = ", ".join(("period", "scale", *group_by))
    only = "".join(f" AND {dimension} = ANY(${number})" for number, dimension in enumerate(where, 6))
    statement = READ_COUNTS.format(key=key, columns=key.removeprefix("period, "), only=only, limit=limit)
    rows = await tenants.fetch(tenant, statement, metric, starts[0], end, starts, *map(list, where.values()))
    return [
        Count(period - 1, scale, tuple(group), {b: int(n) for b, n in zip(buckets, ns, strict=True)}, int(total))
        for period, scale, *group, buckets, ns, total in rows
    ]


async def _execute(session: AsyncSession, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Run a statement that takes its rows as one array a column; no rows, no statement."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        await (await raw_connection(session)).execute(statement, *columns)


async def _fetch(session: AsyncSession, statement: str, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return list(await (await raw_connection(session)).fetch(statement, *columns)) if columns else []
