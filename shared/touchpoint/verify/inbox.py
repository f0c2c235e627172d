"""Looks up the outcomes of the log's records in the inbox and the dead letters."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from touchpoint.db import erasures, offsets
from touchpoint.db.losses import Span
from touchpoint.db.offsets import Place
from touchpoint.kafka.batch import Entry
from touchpoint.kafka.log import Spans

MISSING = "missing"
APPLIED = "applied"
REDRIVEN = "redriven"
"""Applied after having been a dead letter."""
AGAIN = "sent again"
"""The event was applied, lost by Kafka and sent again: the outcome of its first copy in the log."""
ERASED = "erased"

# A record is `applied` if its event's row in the inbox has its offset. With another offset it is a duplicate of the
# record there, or a conflict; but if the record is a dead letter, that is its outcome.
_OUTCOMES = """
SELECT CASE
         WHEN (i.topic, i.partition, i."offset") = (r.topic, r.partition, r."offset")
              THEN CASE d.state WHEN 'redriven' THEN 'redriven' ELSE 'applied' END
         WHEN d.state IN ('open', 'discarded') THEN d.state
         WHEN i.event_id IS NULL THEN 'missing'
         WHEN i.payload_hash = r.payload_hash AND EXISTS (
              SELECT FROM verify_lost l
               WHERE l.topic = i.topic AND l.partition = i.partition
                 AND i."offset" >= l.first AND i."offset" < l.until)
              AND NOT EXISTS (SELECT FROM verify_applied a WHERE a.event_id = r.event_id) THEN 'sent again'
         WHEN i.payload_hash = r.payload_hash THEN 'duplicate'
         ELSE 'conflict'
       END AS outcome,
       r.event_id, age(i.xmin) AS age
  FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::int[], $6::bigint[])
       WITH ORDINALITY AS r (event_id, payload_hash, topic, partition, "offset", n)
  LEFT JOIN inbox i ON i.event_id = r.event_id AND i.consumer = $1
  LEFT JOIN dead_letters d ON d.consumer = $1
   AND d.topic = r.topic AND d.partition = r.partition AND d."offset" = r."offset"
   AND coalesce(d.event_id = r.event_id, true)
 ORDER BY r.n
"""

_POSITIONS = """
SELECT topic, partition, next, cluster_id, topic_id, last_offset, last_record, inbox_from
  FROM offsets WHERE consumer = $1
"""

# The inbox rows of one partition were written by successive transactions; `age` counts transactions back from now. An
# event is out of order if it was applied later (smaller age) than an event behind it in its customer's log.
_OVERTAKEN = """
SELECT topic, partition, "offset"
  FROM (
    SELECT topic, partition, "offset", age,
           max(age) OVER (
             PARTITION BY topic, key ORDER BY "offset" DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS oldest_behind
      FROM verify_applied
  ) AS applied
 WHERE oldest_behind > age
   AND NOT EXISTS (
     SELECT FROM replays r JOIN replay_checkpoints c ON c.replay_id = r.id
      WHERE r.consumer = $1 AND r.kind <> 'rebuild' AND c.topic = applied.topic AND c.partition = applied.partition
        AND "offset" >= c.start AND "offset" < c.next AND (c.places IS NULL OR "offset" = ANY (c.places))
   )
"""

_UNEXPLAINED = """
SELECT event_id, type, topic, partition, "offset",
       EXISTS (SELECT FROM verify_lost l
                WHERE l.topic = inbox.topic AND l.partition = inbox.partition
                  AND "offset" >= l.first AND "offset" < l.until) AS lost
  FROM inbox
  JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS span (topic, partition, start, "end")
       USING (topic, partition)
 WHERE consumer = $1 AND "offset" >= start AND "offset" < "end"
   AND NOT EXISTS (SELECT FROM verify_applied WHERE verify_applied.event_id = inbox.event_id)
   AND NOT EXISTS (SELECT FROM verify_again WHERE verify_again.event_id = inbox.event_id)
"""

_EARLIER = """
SELECT EXISTS (
  SELECT FROM inbox JOIN unnest($2::text[], $3::int[], $4::bigint[]) AS span (topic, partition, start)
         USING (topic, partition)
   WHERE consumer = $1 AND "offset" < start
)
"""


class Position(NamedTuple):
    """A consumer's position in one partition."""

    log: offsets.Position
    inbox_from: int
    """The inbox is pruned before this offset: whether earlier records were applied is unknown."""


class Inbox:
    """The inbox and the dead letters of one consumer, in one transaction."""

    def __init__(self, raw: asyncpg.Connection, consumer: str) -> None:
        self._raw = raw
        self._consumer = consumer
        self._again: set[UUID] = set()
        """Lost events that were sent again and of which a copy was read."""

    async def positions(self) -> dict[Place, Position]:
        """The consumer's position in each partition."""
        rows = await self._raw.fetch(_POSITIONS, self._consumer)
        return {
            (topic, partition): Position(offsets.Position(*identity), inbox_from)
            for topic, partition, *identity, inbox_from in rows
        }

    async def lose(self, lost: Iterable[Span]) -> None:
        """Treat these records as lost by Kafka."""
        await self._raw.copy_records_to_table("verify_lost", records=list(lost))

    async def outcomes(self, entries: Sequence[Entry]) -> list[str]:
        """The outcome of each entry (an event or an unreadable record); stores the applied ones for later checks."""
        if not entries:
            return []
        rows = [(*_identified(entry), *_place(entry)) for entry in entries]
        rows_found = await self._raw.fetch(_OUTCOMES, self._consumer, *map(list, zip(*rows, strict=True)))
        applied = [
            (row["event_id"], *_place(entry), entry.record.key, row["age"])
            for entry, row in zip(entries, rows_found, strict=True)
            if row["outcome"] in (APPLIED, REDRIVEN)
        ]
        await self._raw.copy_records_to_table("verify_applied", records=applied)
        return await self._with_erased(entries, await self._sent_again(rows_found))

    async def _sent_again(self, rows: Sequence[asyncpg.Record]) -> list[str]:
        """The outcomes: of several copies of a lost event, the first is `AGAIN`, and the others are duplicates.

        A copy is also a duplicate if the event was applied from a record that is still in the log.
        """
        known = {row["event_id"] for row in rows if row["outcome"] in (APPLIED, REDRIVEN)} | self._again
        outcomes: list[str] = []
        for row in rows:
            if row["outcome"] == AGAIN and row["event_id"] in known:
                outcomes.append("duplicate")
                continue
            outcomes.append(row["outcome"])
            if row["outcome"] == AGAIN:
                known.add(row["event_id"])
        fresh = {row["event_id"] for row, outcome in zip(rows, outcomes, strict=True) if outcome == AGAIN}
        self._again |= fresh
        await self._raw.copy_records_to_table("verify_again", records=[(event_id,) for event_id in fresh])
        return outcomes

    async def _with_erased(self, entries: Sequence[Entry], outcomes: list[str]) -> list[str]:
        """The outcomes, with `ERASED` instead of `MISSING` for erased customers: replays leave out their events."""
        missed = {index: _customer(entries[index]) for index, outcome in enumerate(outcomes) if outcome == MISSING}
        gone = await erasures.among(self._raw, {customer for customer in missed.values() if customer})
        return [ERASED if missed.get(index) in gone else outcome for index, outcome in enumerate(outcomes)]

    def overtaken(self) -> AsyncIterator[asyncpg.Record]:
        """The offsets of events applied after a later event of the same customer, replays aside."""
        return self._rows(_OVERTAKEN)

    def unexplained(self, spans: Spans) -> AsyncIterator[asyncpg.Record]:
        """Inbox rows in these spans without their record at that offset; `lost`: whether Kafka has lost it."""
        columns = zip(*((*where, start, end) for where, (start, end) in spans.items()), strict=True)
        return self._rows(_UNEXPLAINED, *map(list, columns))

    async def begins_before(self, spans: Spans) -> bool:
        """Whether events before these spans were applied."""
        columns = zip(*((*where, start) for where, (start, _) in spans.items()), strict=True)
        exists: bool = await self._raw.fetchval(_EARLIER, self._consumer, *map(list, columns))
        return exists

    async def _rows(self, query: str, *values: Any) -> AsyncIterator[asyncpg.Record]:
        async for row in self._raw.cursor(query, self._consumer, *values, prefetch=1000):
            yield row


def _identified(entry: Entry) -> tuple[UUID | None, bytes | None]:
    return (entry.claim.event_id, entry.claim.payload_hash) if entry.claim else (None, None)


def _customer(entry: Entry) -> erasures.Customer | None:
    customer_id = getattr(entry.event, "customer_id", None)
    return (entry.event.meta.tenant, customer_id) if entry.event is not None and customer_id else None


def _place(entry: Entry) -> tuple[str, int, int]:
    return entry.record.topic, entry.record.partition, entry.record.offset
