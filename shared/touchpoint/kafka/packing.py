"""How records become requests of aiokafka: their partition, their size, and many of one partition packed together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from touchpoint.kafka.codec import Record

PACKED_RECORDS = 10
"""So many records for one partition are packed here, which is three times as fast; fewer join other callers'."""


class Parcel(NamedTuple):
    """Records that Kafka takes or refuses as one: their indices, and the call that queues them."""

    indices: Sequence[int]
    size: int
    packed: bool
    queue: Callable[[], Awaitable[asyncio.Future[object]]]
    """Its result is a future with Kafka's answer."""


def size(record: Record) -> int:
    """Bytes the record takes on the wire at most."""
    found: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, record.headers)
    return found


@lru_cache(100_000)
def key_hash(key: bytes) -> int:
    """Kafka's own hash of a key, as every client has it: modulo the partition count it is the partition."""
    return int(murmur2(key)) & 0x7FFFFFFF


def parcels(
    client: AIOKafkaProducer, place: tuple[str, int], records: Sequence[Record], indices: Sequence[int]
) -> Iterator[Parcel]:
    """Parcels for one partition (`place`: topic as Kafka names it, number), in the order of `indices`."""
    topic, partition = place
    if len(indices) < PACKED_RECORDS:
        for index in indices:
            r = records[index]
            queue = partial(client.send, topic, r.value, r.key, partition, headers=r.headers)
            yield Parcel((index,), size(r), False, queue)
        return
    batch, packed = client.create_batch(), list[int]()
    for index in indices:
        r = records[index]
        if batch.append(timestamp=None, key=r.key, value=r.value, headers=r.headers) is None:
            yield Parcel(packed, batch.size(), True, partial(client.send_batch, batch, topic, partition=partition))
            batch, packed = client.create_batch(), []
            batch.append(timestamp=None, key=r.key, value=r.value, headers=r.headers)
        packed.append(index)
    batch.close()
    yield Parcel(packed, batch.size(), True, partial(client.send_batch, batch, topic, partition=partition))
