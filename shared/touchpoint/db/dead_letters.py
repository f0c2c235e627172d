"""The index of dead letters: events that could not be handled, their causes, and whether they were redriven."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.record import Record
from touchpoint.db import audit, inbox

MOST = 100_000
"""Dead letters that one command handles, at most."""

_COLUMNS = """consumer, topic, partition, "offset", event_id, tenant_id, customer_id, type, traceparent,
consumer_version, stage, error, reason, fingerprint"""

_AGAIN = """
ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE
   SET attempt = old.attempt + 1, state = 'open', closed_at = NULL, closed_reason = NULL,
       event_id = excluded.event_id, tenant_id = excluded.tenant_id, customer_id = excluded.customer_id,
       type = excluded.type, traceparent = excluded.traceparent, consumer_version = excluded.consumer_version,
       stage = excluded.stage, error = excluded.error, reason = excluded.reason, fingerprint = excluded.fingerprint
"""
"""Overwrites all columns: after Kafka lost records, another event may become a dead letter at the same position."""

_NOTE = f"""
INSERT INTO dead_letters AS old ({_COLUMNS})
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
{_AGAIN}
RETURNING topic, partition, "offset", attempt, failed_at
"""  # noqa: S608 (no user input)

_TAKEN = """
SELECT d."offset"
  FROM unnest($2::text[], $3::int[], $4::bigint[], $5::uuid[]) AS r (topic, partition, "offset", event_id)
  JOIN dead_letters d USING (topic, partition, "offset")
 WHERE d.consumer = $1 AND d.event_id = r.event_id
"""


class IndexRow(NamedTuple):
    """A dead letter in the index, identified by its consumer and its position in the log."""

    topic: str
    partition: int
    offset: int
    event_id: Any
    tenant_id: str | None
    customer_id: str | None
    type: str | None
    traceparent: str | None
    consumer_version: str
    stage: str
    error: str
    reason: str
    fingerprint: str


class Attempt(NamedTuple):
    """How often an event has failed, including this time, and when it failed first."""

    number: int
    first_failed_at: datetime


async def note(raw: asyncpg.Connection, consumer: str, rows: Sequence[IndexRow]) -> dict[tuple[str, int, int], Attempt]:
    """Add dead letters, which are distinct in `rows`; one that is indexed already is opened again.

    Returns the attempts by topic, partition and offset.
    """
    attempts = await raw.fetch(_NOTE, consumer, *map(list, zip(*rows, strict=True)))
    return {(r["topic"], r["partition"], r["offset"]): Attempt(r["attempt"], r["failed_at"]) for r in attempts}


async def taken(raw: asyncpg.Connection, consumer: str, records: Sequence[Record]) -> set[int]:
    """The offsets of those records of one partition that are indexed as dead letters of the same event."""
    rows = [(r.topic, r.partition, r.offset, inbox.identity_of(r)) for r in records]
    indexed = await raw.fetch(_TAKEN, consumer, *map(list, zip(*rows, strict=True))) if rows else ()
    return {row["offset"] for row in indexed}


async def take_over(raw: asyncpg.Connection, schema: str) -> None:
    """Copy the dead letters of a rebuild's schema into the live index."""
    await raw.execute(
        f"INSERT INTO public.dead_letters AS old ({_COLUMNS}) SELECT {_COLUMNS} FROM {schema}.dead_letters {_AGAIN}"  # noqa: S608 (no user input)
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of dead letters; None matches all. `since` and `until` compare the time of the first failure.

    If more than `limit` match, the oldest are selected.
    """

    consumer: str | None = None
    fingerprint: str | None = None
    type: str | None = None
    tenant: str | None = None
    customer: str | None = None
    state: str | None = "open"
    since: datetime | None = None
    until: datetime | None = None
    limit: int = MOST

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of `_SELECTED`."""
        return {name: getattr(self, name) for name in self.__slots__}


_CHOSEN = """
       (CAST(:consumer AS text) IS NULL OR consumer = :consumer)
   AND (CAST(:fingerprint AS text) IS NULL OR fingerprint = :fingerprint)
   AND (CAST(:type AS text) IS NULL OR type = :type)
   AND (CAST(:tenant AS text) IS NULL OR tenant_id = :tenant)
   AND (CAST(:customer AS text) IS NULL OR customer_id = :customer)
   AND (CAST(:state AS text) IS NULL OR state = :state)
   AND (CAST(:since AS timestamptz) IS NULL OR failed_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR failed_at < :until)
"""

_SELECTED = f"""
SELECT * FROM dead_letters WHERE {_CHOSEN} ORDER BY failed_at, topic, partition, "offset" LIMIT :limit
"""  # noqa: S608 (no user input)

_NEWEST = text(f"""
SELECT * FROM (SELECT *, concat_ws('/', consumer, topic, partition, "offset") COLLATE "C" AS place FROM dead_letters)
              AS dead_letters
 WHERE {_CHOSEN}
   AND (CAST(:before AS timestamptz) IS NULL OR (failed_at, place) < (:before, :before_place))
 ORDER BY failed_at DESC, place DESC LIMIT :limit
""")  # noqa: S608 (no user input)

_CAUSES = text(f"""
SELECT consumer, fingerprint, min(type) AS type, min(stage) AS stage, min(error) AS error, min(reason) AS reason,
       count(*) FILTER (WHERE state = 'open') AS open, count(*) FILTER (WHERE state = 'redriven') AS redriven,
       count(*) FILTER (WHERE state = 'discarded') AS discarded, count(DISTINCT tenant_id) AS tenants,
       count(DISTINCT (tenant_id, customer_id)) AS customers, max(attempt) AS attempts,
       min(failed_at) AS first_failed_at, max(failed_at) AS last_failed_at,
       (array_agg(topic || '/' || partition || '/' || "offset" ORDER BY failed_at DESC))[1] AS example
  FROM ({_SELECTED}) AS selected
 GROUP BY consumer, fingerprint ORDER BY open DESC, last_failed_at DESC
""")  # noqa: S608 (no user input)

_DISCARD = text(f"""
WITH selected AS ({_SELECTED} FOR UPDATE)
UPDATE dead_letters AS d SET state = 'discarded', closed_at = now(), closed_reason = :reason FROM selected s
 WHERE (d.consumer, d.topic, d.partition, d."offset") = (s.consumer, s.topic, s.partition, s."offset")
RETURNING d.consumer, d.fingerprint
""")  # noqa: S608 (no user input)


async def causes(session: AsyncSession, selection: Selection) -> list[dict[str, Any]]:
    """The selected dead letters grouped by consumer and cause: counts, affected customers, times, an example."""
    return [dict(row) for row in (await session.execute(_CAUSES, selection.values)).mappings()]


async def find(session: AsyncSession, selection: Selection) -> list[dict[str, Any]]:
    """The selected dead letters, oldest first."""
    return [dict(row) for row in (await session.execute(text(_SELECTED), selection.values)).mappings()]


async def newest(
    session: AsyncSession, selection: Selection, before: tuple[datetime, str] | None
) -> list[dict[str, Any]]:
    """The selected dead letters, newest first, starting after `before`: the `failed_at` and `place` of one of them."""
    moment, place = before or (None, None)
    values = selection.values | {"before": moment, "before_place": place}
    return [dict(row) for row in (await session.execute(_NEWEST, values)).mappings()]


async def at(session: AsyncSession, topic: str, partition: int, offset: int) -> list[dict[str, Any]]:
    """The dead letters at one position in the log, one per consumer."""
    query = text('SELECT * FROM dead_letters WHERE (topic, partition, "offset") = (:topic, :partition, :offset)')
    values = {"topic": topic, "partition": partition, "offset": offset}
    return [dict(row) for row in (await session.execute(query, values)).mappings()]


async def discard(session: AsyncSession, selection: Selection, who: str, reason: str) -> int:
    """Discard the selected dead letters that are open, with an audit entry per consumer; returns their number."""
    values = selection.values | {"state": "open", "reason": reason}
    by_consumer: dict[str, list[str]] = {}
    for row in await session.execute(_DISCARD, values):
        by_consumer.setdefault(row.consumer, []).append(row.fingerprint)
    for consumer, fingerprints in by_consumer.items():
        details = {"discarded": len(fingerprints), "fingerprints": sorted(set(fingerprints))}
        await audit.add(session, who, "dead_letters.discarded", consumer, details, reason=reason)
    return sum(map(len, by_consumer.values()))
