"""Fold decisions: read back what a service has published to its own topic, and apply what its database lacks.

A decision is made by a person or by time, so it does not follow from the events that a service reads. It is stored and
published in one transaction. A database that was restored from an older backup lacks the decisions made since; they are
in the service's own topic, which its consumer reads like any other topic. Before the service acts again, `fold` applies
those that the consumer has not read yet.

Handlers of decisions are idempotent: in normal operation the database has every decision before the consumer reads it.
"""

from collections.abc import AsyncIterator, Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import telemetry
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import WRITERS
from touchpoint.db import offsets, outbox
from touchpoint.db.engine import Sessions, blames_database, raw_connection, transaction
from touchpoint.kafka import log as logs
from touchpoint.kafka.batch import decoded
from touchpoint.kafka.handlers import Context, Handlers

BATCH = 500
"""Records applied in one transaction."""


def own_topics(consumer: str, handlers: Handlers) -> list[str]:
    """The topics that the service both writes and reads: those with its decisions."""
    return [topic for topic in handlers.topics if WRITERS.get(topic) == consumer]


async def fold(
    consumer: str, handlers: Handlers, settings: KafkaSettings, sessions: Sessions, *, again: bool = False
) -> int:
    """Apply the service's own records that its consumer has not read yet, or all of them `again`; returns their number.

    An event that its handler refuses is left to the consumer, which makes a dead letter of it. Raises UsageError if
    Kafka cannot be reached, and errors of the database.
    """
    read = 0
    async for records in unread(consumer, handlers, settings, sessions, again=again):
        for start in range(0, len(records), BATCH):
            await _apply(consumer, handlers, sessions, records[start : start + BATCH])
        read += len(records)
    return read


async def unread(
    consumer: str, handlers: Handlers, settings: KafkaSettings, sessions: Sessions, *, again: bool = False
) -> AsyncIterator[list[Record]]:
    """The records of the service's own topics from the consumer's positions on, or `again` from the first one on."""
    topics = own_topics(consumer, handlers)
    async with logs.connected(settings, topics) as log:
        async with transaction(sessions) as session:
            positions = await offsets.load(await raw_connection(session), consumer)
        starts = {} if again else {place: position.next for place, position in positions.items()}
        begins, ends = await log.begins(topics), await log.ends(topics)
        spans = {place: (max(begins[place], starts.get(place, 0)), end) for place, end in ends.items()}
        async for records in log.read(spans):
            yield records


async def unsent(raw: asyncpg.Connection, consumer: str, handlers: Handlers) -> list[Record]:
    """The records of the service's own topics that wait in its outbox."""
    return await outbox.waiting(raw, own_topics(consumer, handlers))


async def apply(session: AsyncSession, handlers: Handlers, records: Sequence[Record]) -> None:
    """Pass records to their handlers without the inbox; those of other types and unreadable ones are left out."""
    events = [entry.event for record in records if (entry := decoded(record, handlers)).event is not None]
    await handlers.handle([handlers.prepare(event) for event in events], Context(session))


async def _apply(consumer: str, handlers: Handlers, sessions: Sessions, records: Sequence[Record]) -> None:
    """Apply records in one transaction; if one is refused, each in a transaction of its own."""
    try:
        async with transaction(sessions) as session:
            await apply(session, handlers, records)
    except Exception as error:
        if blames_database(error):
            raise
        if len(records) == 1:
            telemetry.log().error(telemetry.FOLD_REFUSED, consumer=consumer, error=explain(error))
            return
        for record in records:
            await _apply(consumer, handlers, sessions, [record])
