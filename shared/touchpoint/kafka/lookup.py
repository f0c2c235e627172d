"""Looks into the log without a consumer group: a record, and what was written for the same customer around it."""

import asyncio

from aiokafka.errors import KafkaError

from touchpoint.errors import UsageError
from touchpoint.kafka import log
from touchpoint.kafka.codec import Record
from touchpoint.settings import KafkaSettings

WINDOW = 5000
"""Records on each side in which neighbours are looked for."""
TIMEOUT_SECONDS = 20


async def around(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    """The record at a place and those with its key around it, in log order. Raises UsageError when it is gone."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await _window(settings, topic, partition, offset)
    except (KafkaError, TimeoutError, OSError) as error:
        raise UsageError(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from None
    wanted = next((record for record in found if record.offset == offset), None)
    if wanted is None:
        raise UsageError(f"{topic}/{partition} has no record {offset} (any more)")
    return [record for record in found if record.key == wanted.key]


async def _window(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    place = topic, partition
    async with log.connected(settings, [topic]) as reader:
        begin = max((await reader.begins([topic])).get(place, 0), offset - WINDOW)
        end = min((await reader.ends([topic])).get(place, 0), offset + WINDOW)
        spans = {place: (begin, end)} if begin <= offset < end else {}
        return [record async for records in reader.read(spans) for record in records]
