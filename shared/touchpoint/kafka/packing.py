"""Prepares records for aiokafka: partition, size, and batches of many records of one partition."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from touchpoint.base.time_slice import TimeSlice
from touchpoint.contracts.record import Record

MAX_RECORD_BYTES = 1_000_000
"""A larger record is refused before it is sent, because a batch refused by the broker breaks the producer. The limit is
slightly below that of the topics (`requirements.MAX_MESSAGE_BYTES`)."""
MAX_BATCH_BYTES = 512 * 1024
"""The limit per partition and request; aiokafka's default of 16 KiB halves the throughput."""
PACKED_RECORDS = 10
"""From this many records per partition on, a batch is packed here, which is three times as fast; fewer records are
queued one by one, and share aiokafka's batches with other callers."""


Place = tuple[str, int]
"""A topic's name in Kafka (with prefix), and a partition number."""


class Parcel(NamedTuple):
    """Records that Kafka accepts or refuses together: their indices, and the call that queues them."""

    indices: Sequence[int]
    size: int
    packed: bool
    queue: Callable[[], Awaitable[asyncio.Future[object]]]
    """Returns a future with Kafka's answer."""


@dataclass(slots=True)
class Group:
    """The records of one call for one partition: their indices and total size in bytes."""

    indices: list[int] = field(default_factory=list)
    bytes: int = 0


@dataclass(slots=True)
class Lane:
    """One partition: bytes and packed batches that await an answer, and the lock for queuing."""

    waiting_bytes: int = 0
    waiting_packed: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, parcel: Parcel, times: int) -> None:
        """Count a parcel that awaits its answer (`times` = 1), or no longer does (-1)."""
        self.waiting_bytes += times * parcel.size
        self.waiting_packed += times * parcel.packed

    def is_free(self, group: Group) -> bool:
        """Whether aiokafka queues this group at once. A packed batch, and records after it, wait for those before."""
        if self.turn.locked() or self.waiting_packed:
            return False
        if len(group.indices) >= PACKED_RECORDS:
            return not self.waiting_bytes
        return self.waiting_bytes + group.bytes <= MAX_BATCH_BYTES


def size(record: Record) -> int:
    """The most bytes the record takes on the wire."""
    size_bytes: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, record.headers)
    return size_bytes


@lru_cache(100_000)
def key_hash(key: bytes) -> int:
    """Kafka's standard hash of a key (murmur2); modulo the partition count, it is the partition."""
    return int(murmur2(key)) & 0x7FFFFFFF


async def parcels(
    client: AIOKafkaProducer, place: Place, records: Sequence[Record], indices: Sequence[int], time_slice: TimeSlice
) -> AsyncIterator[Parcel]:
    """Parcels for one partition, in the order of `indices`."""
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
        if time_slice.expired():
            await time_slice.pause()
    batch.close()
    yield Parcel(packed, batch.size(), True, partial(client.send_batch, batch, topic, partition=partition))
