"""Looks into the log without a consumer group: a record, and what was written for the same customer around it."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from touchpoint.errors import UsageError
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
    tp = TopicPartition(settings.topic_prefix + topic, partition)
    consumer = AIOKafkaConsumer(**settings.client_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        begin = max((await consumer.beginning_offsets([tp]))[tp], offset - WINDOW)
        end = min((await consumer.end_offsets([tp]))[tp], offset + WINDOW)
        found = list[Record]()
        if begin <= offset < end:
            consumer.seek(tp, begin)
            while await consumer.position(tp) < end:
                read = (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
                found += [Record(topic, r.key or b"", r.value or b"", r.headers, partition, r.offset) for r in read]
        return found
    finally:
        await consumer.stop()
