"""Compares the events a consumer must have caused with those published to Kafka or waiting in the outbox."""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import dead_letters, is_dead_letters
from touchpoint.db.inbox import identity_of
from touchpoint.db.outbox import load_headers
from touchpoint.kafka.log import Spans

BATCH_ROWS = 10_000

_ROWS = "SELECT id, topic, headers FROM {schema}.outbox WHERE id > $1 AND parked IS NULL ORDER BY id LIMIT $2"

_DEAD_LETTERS = """
SELECT topic, partition, "offset"
  FROM dead_letters
  JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS span (topic, partition, start, "end")
       USING (topic, partition)
 WHERE consumer = $1 AND "offset" >= start AND "offset" < "end"
"""

_UNPUBLISHED = """
SELECT topic, what FROM verify_promised AS promised
 WHERE NOT EXISTS (SELECT FROM verify_published p WHERE p.topic = promised.topic AND p.what = promised.what)
"""


class Outbox:
    """The outbox of a snapshot. Rows the handlers write to its rebuilt copy are `promised`: each must be published."""

    def __init__(self, raw: asyncpg.Connection, consumer: str) -> None:
        self._raw = raw
        self._consumer = consumer
        self._read = 0

    async def promise(self) -> None:
        """Store the rows the handlers have written since the last call as promised."""
        async for records, last in self._waiting("pg_temp", self._read):
            self._read = last
            await self._note("verify_promised", records)

    async def promise_dead_letters(self, spans: Spans) -> None:
        """Store the dead letters of these spans as promised to their topics."""
        columns = zip(*((*place, start, end) for place, (start, end) in spans.items()), strict=True)
        rows = self._raw.cursor(_DEAD_LETTERS, self._consumer, *map(list, columns), prefetch=1000)
        promised = [(dead_letters(topic, self._consumer), _place(topic, *at)) async for topic, *at in rows]
        await self._raw.copy_records_to_table("verify_promised", records=promised)

    async def topics(self) -> list[str]:
        """The topics of all promised events and dead letters."""
        return [row["topic"] for row in await self._raw.fetch("SELECT DISTINCT topic FROM verify_promised")]

    async def keep_waiting(self) -> None:
        """Count the rows in the service's outbox as published, except parked ones: the relay will send them."""
        async for records, _ in self._waiting("public", 0):
            await self.keep(records)

    async def keep(self, records: Sequence[Record]) -> None:
        """Store these records as published."""
        await self._note("verify_published", records)

    async def promised(self) -> int:
        """The number of promised events and dead letters."""
        count: int = await self._raw.fetchval("SELECT count(*) FROM verify_promised")
        return count

    async def unpublished(self) -> AsyncIterator[asyncpg.Record]:
        """Promised records that are not published: an event by its identity, a dead letter by its source offset."""
        async for row in self._raw.cursor(_UNPUBLISHED, prefetch=1000):
            yield row

    async def _waiting(self, schema: str, after: int) -> AsyncIterator[tuple[list[Record], int]]:
        while rows := await self._raw.fetch(_ROWS.format(schema=schema), after, BATCH_ROWS):
            after = rows[-1]["id"]
            yield [Record(row["topic"], b"", b"", load_headers(row["headers"])) for row in rows], after

    async def _note(self, table: str, records: Sequence[Record]) -> None:
        await self._raw.copy_records_to_table(table, records=[(record.topic, _what(record)) for record in records])


def _what(record: Record) -> str | None:
    if is_dead_letters(record.topic):
        headers = dict(record.headers)  # the dead letter's own headers come last and win
        place = (headers.get(name) or b"" for name in ("dlq_topic", "dlq_partition", "dlq_offset"))
        return _place(*(part.decode(errors="replace").replace("\x00", "\ufffd") for part in place))
    event_id = identity_of(record)
    return None if event_id is None else str(event_id)


def _place(topic: str, partition: int | str, offset: int | str) -> str:
    return f"{topic}/{partition}/{offset}"
