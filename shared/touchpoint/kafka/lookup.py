"""Looks into the log without a consumer group: a record, and what was written for the same customer around it."""

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from touchpoint.base.errors import NotFoundError, UnreachableError
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Flawed, Record
from touchpoint.kafka import log

NEIGHBOURS = 5
"""Of a record, on each side."""
WINDOW = 5000
"""Records on each side in which neighbours are looked for."""
TIMEOUT_SECONDS = 20


async def around(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    """The record at a place and its neighbours among those with its key, in log order.

    Raises NotFoundError when it is gone, UnreachableError when Kafka does not answer.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await _window(settings, topic, partition, offset)
    except (KafkaError, TimeoutError, OSError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {explain(error)}") from None
    wanted = next((record for record in found if offset in _offsets(record)), None)
    if wanted is None:
        raise NotFoundError(f"{topic}/{partition} has no record {offset} (any more)")
    alike = [record for record in found if record.key == wanted.key]
    index = alike.index(wanted)
    return alike[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]


def shown(record: Record) -> dict[str, Any]:
    """A record for programs; bytes that are no UTF-8 are shown as what they may mean."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(errors="replace"),
        "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
        "value": record.value.decode(errors="replace"),
    }


def _offsets(record: Record) -> range:
    """Those a record stands for: a batch that cannot be read is one record."""
    batch = record.value.offsets if isinstance(record.value, Flawed) else None
    return range(batch[0], batch[1] + 1) if batch else range(record.offset, record.offset + 1)


async def _window(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Record]:
    place = topic, partition
    async with log.connected(settings, [topic]) as reader:
        begin = max((await reader.begins([topic])).get(place, 0), offset - WINDOW)
        end = min((await reader.ends([topic])).get(place, 0), offset + WINDOW)
        spans = {place: (begin, end)} if begin <= offset < end else {}
        return [record async for records in reader.read(spans) for record in records]
