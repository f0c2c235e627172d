"""SQL of metrics-svc. Counting reads and writes a batch with one statement per table, with sorted keys."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.catalogue.service import UNKNOWN, Dimension, Metric
from metrics_svc.counting.decisions import Changed, Key, Opening, Sums, Ticket
from metrics_svc.counting.models import ANSWERS, ROLLUPS, TICKETS, Answer, Cell, Group, Moment, TicketRow
from touchpoint.db.engine import raw_connection
from touchpoint.db.tenants import Tenants

ALWAYS = datetime(1, 1, 2, tzinfo=UTC)
"""A time before any event."""

_CHANGES = "SELECT {name} FROM changes AS c WHERE c.tenant_id = asked.tenant_id AND c.customer_id = asked.customer_id"
_GIVEN = f"""
       coalesce(
         ({_CHANGES} AND {{name}} IS NOT NULL AND c.at <= asked.at
           ORDER BY c.at DESC, recorded_at DESC, event_id DESC LIMIT 1),
         ({_CHANGES} AND {{name}} IS NOT NULL AND c.at > asked.at ORDER BY c.at, recorded_at, event_id LIMIT 1),
         '{UNKNOWN}'
       )"""
READ_GROUPS = f"""
SELECT asked.tenant_id, asked.customer_id, asked.at, {", ".join(_GIVEN.format(name=name) for name in Group._fields)}
  FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS asked (tenant_id, customer_id, at)
"""  # noqa: S608 (our names)
"""The last change at or before a moment applies. Before the first known change the first applies, because the system
that has the customers may have been connected only then."""

# A change applies from its time on; the first change that gives a field also applies to all times before it.
REACH = """
SELECT asked.tenant_id, asked.customer_id,
       CASE WHEN (NOT segment OR EXISTS (SELECT FROM changes AS c
                   WHERE c.tenant_id = asked.tenant_id AND c.customer_id = asked.customer_id AND c.at < since
                     AND c.segment IS NOT NULL))
             AND (NOT tier OR EXISTS (SELECT FROM changes AS c
                   WHERE c.tenant_id = asked.tenant_id AND c.customer_id = asked.customer_id AND c.at < since
                     AND c.tier IS NOT NULL))
            THEN since ELSE $6 END
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[], $5::bool[])
    AS asked (tenant_id, customer_id, since, segment, tier)
"""

READ_ANSWERS = f"""
SELECT {ANSWERS.select}
  FROM answers JOIN unnest($1::text[], $2::text[], $3::timestamptz[]) AS changed (tenant_id, customer_id, since)
       USING (tenant_id, customer_id)
 WHERE at >= since
"""  # noqa: S608 (our names)

# A ticket whose events name two customers is in two partitions. Its row is created before it is locked, so that the
# second consumer waits for the first and then reads the row that the first one wrote.
CREATE_TICKETS = """
INSERT INTO tickets (tenant_id, ticket_id) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (tenant_id, ticket_id) DO NOTHING
"""

LOCK_TICKETS = f"""
SELECT {TICKETS.select}
  FROM tickets JOIN (
    SELECT * FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, ticket_id)
     UNION
    SELECT tenant_id, ticket_id
      FROM tickets JOIN unnest($3::text[], $4::text[], $5::timestamptz[]) AS changed (tenant_id, customer_id, since)
           USING (tenant_id, customer_id)
     WHERE opened_at >= since
  ) AS wanted USING (tenant_id, ticket_id)
 ORDER BY tenant_id, ticket_id FOR UPDATE OF tickets
"""  # noqa: S608 (our names)

READ_COUNTS = """
SELECT {key}, array_agg(bucket) AS buckets, array_agg(n) AS ns, sum(total) AS total
  FROM (
    SELECT width_bucket(quarter, $5::timestamptz[]) AS period, {columns}, bucket, sum(n) AS n, sum(total) AS total
      FROM rollups
     WHERE tenant_id = caller.tenant AND metric = $2 AND quarter >= $3 AND quarter < $4{only}
     GROUP BY period, {columns}, bucket
    HAVING sum(n) <> 0
  ) AS cells
 GROUP BY {key} LIMIT {limit:d}
"""


class Count(NamedTuple):
    """The sums of one period, scale and group."""

    period: int
    """Index of the period in the request, from 0."""
    scale: str
    """Empty for durations, and where nothing was measured."""
    group: tuple[str, ...]
    buckets: dict[int, int]
    """Number of measurements by score, or by bucket of the sketch."""
    total: int

    @property
    def n(self) -> int:
        """The number of measurements."""
        return sum(self.buckets.values())


async def reach(session: AsyncSession, customers: Mapping[Key, Changed]) -> dict[Key, datetime]:
    """For each of these customers, whose changes are already stored, the earliest time whose group may have changed."""
    asked = [
        (*key, since, "segment" in fields, "tier" in fields) for key, (since, fields, _) in sorted(customers.items())
    ]
    rows = await _fetch(session, REACH, asked, ALWAYS)
    return {(tenant, customer): since for tenant, customer, since in rows}


async def read_groups(session: AsyncSession, moments: Collection[Moment]) -> dict[Moment, Group]:
    """The group of each customer at each of these moments, by all the changes that are stored."""
    rows = await _fetch(session, READ_GROUPS, sorted(moments))
    return {(tenant, customer, at): Group(segment, tier) for tenant, customer, at, segment, tier in rows}


async def read_answers(session: AsyncSession, reaching: Mapping[Key, datetime]) -> list[Answer]:
    """The answers that each of these customers gave from the given time on."""
    rows = await _fetch(session, READ_ANSWERS, [(*key, since) for key, since in sorted(reaching.items())])
    return [ANSWERS.read(row) for row in rows]


async def lock_tickets(
    session: AsyncSession, keys: Collection[Key], reaching: Mapping[Key, datetime]
) -> dict[Key, Ticket]:
    """Load these tickets, creating missing ones, and those that each customer in `reaching` opened from its time on.

    They stay locked until the transaction ends.
    """
    await _execute(session, CREATE_TICKETS, sorted(keys))
    if not (keys or reaching):
        return {}
    wanted = [[tenant for tenant, _ in sorted(keys)], [ticket for _, ticket in sorted(keys)]]
    rows = [(*key, since) for key, since in sorted(reaching.items())]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    locked = await TICKETS.fetch(session, LOCK_TICKETS, *wanted, *columns)
    return {(row.tenant_id, row.ticket_id): _ticket(row) for row in locked}


async def write_tickets(session: AsyncSession, tickets: Mapping[Key, Ticket]) -> None:
    """Store these tickets, which must be locked by `lock_tickets`."""
    await TICKETS.update(session, [_row(key, ticket) for key, ticket in tickets.items()])


async def add(session: AsyncSession, cells: Mapping[Cell, Sums]) -> None:
    """Add to the rollups."""
    await ROLLUPS.add(session, [cell._replace(n=sums.n, total=sums.total) for cell, sums in cells.items()])


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


async def _fetch(session: AsyncSession, statement: str, rows: Iterable[tuple[Any, ...]], *more: Any) -> list[Any]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return list(await (await raw_connection(session)).fetch(statement, *columns, *more)) if columns else []


def _ticket(row: TicketRow) -> Ticket:
    opening = None
    if row.opened_at is not None:
        opening = Opening(row.opened_at, *(getattr(row, name) for name in Opening._fields[1:]))
    return Ticket(opening, row.replies, row.solutions)


def _row(key: Key, ticket: Ticket) -> TicketRow:
    row = TicketRow(*key, replies=ticket.replies, solutions=ticket.solutions)
    if ticket.opening is None:
        return row
    return row._replace(
        opened_at=ticket.opening.at, **{name: getattr(ticket.opening, name) for name in Opening._fields[1:]}
    )
