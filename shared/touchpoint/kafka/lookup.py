"""Looks up a record in the log, with the same customer's records around it. Uses no consumer group."""

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from touchpoint.base.errors import NotFoundError, UnreachableError
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Flawed, Record
from touchpoint.kafka import log

NEIGHBOURS = 5
"""Records of the same key shown before and after a record, each."""
WINDOW = 5000
"""Records searched for neighbours before and after a record, each."""
TIMEOUT_SECONDS = 20


async def around(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    """The record at an offset, with its neighbours of the same key, in log order.

    Raises NotFoundError if the record does not exist (any more), UnreachableError if Kafka does not answer.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            records = await _window(settings, topic, partition, offset)
    except (KafkaError, TimeoutError, OSError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {explain(error)}") from None
    wanted = next((record for record in records if offset in _offsets(record)), None)
    if wanted is None:
        raise NotFoundError(f"{topic}/{partition} has no record at offset {offset} (any more)")
    same_key = [record for record in records if record.key == wanted.key]
    index = same_key.index(wanted)
    return same_key[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]


def shown(record: Record) -> dict[str, Any]:
    """A record for JSON output; bytes that are not UTF-8 become replacement characters."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(errors="replace"),
        "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
        "value": record.value.decode(errors="replace"),
    }


def _offsets(record: Record) -> range:
    """The offsets of a record: several if it stands for a batch that cannot be read."""
    batch = record.value.offsets if isinstance(record.value, Flawed) else None
    return range(batch[0], batch[1] + 1) if batch else range(record.offset, record.offset + 1)


async def _window(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    place = topic, partition
    async with log.connected(settings, [topic]) as reader:
        begin = max((await reader.begins([topic])).get(place, 0), offset - WINDOW)
        end = min((await reader.ends([topic])).get(place, 0), offset + WINDOW)
        spans = {place: (begin, end)} if begin <= offset < end else {}
        return [record async for records in reader.read(spans) for record in records]
