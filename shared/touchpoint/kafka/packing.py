"""How records become requests of aiokafka: their partition, their size, and many of one partition packed together."""

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
"""A record above this is refused before it is sent: a batch that the broker refuses breaks the producer. It is a little
under what the topics take (`requirements.MAX_MESSAGE_BYTES`)."""
MAX_BATCH_BYTES = 512 * 1024
"""Per partition and request; aiokafka's default of 16 KiB costs half the speed."""
PACKED_RECORDS = 10
"""So many records for one partition are packed here, which is three times as fast; fewer join other callers'."""


Place = tuple[str, int]
"""A topic, as Kafka names it, and a partition."""


class Parcel(NamedTuple):
    """Records that Kafka takes or refuses as one: their indices, and the call that queues them."""

    indices: Sequence[int]
    size: int
    packed: bool
    queue: Callable[[], Awaitable[asyncio.Future[object]]]
    """Its result is a future with Kafka's answer."""


@dataclass(slots=True)
class Group:
    """A call's records of one partition, by index."""

    indices: list[int] = field(default_factory=list)
    bytes: int = 0


@dataclass(slots=True)
class Lane:
    """One partition: the bytes that wait for its answers, and who may queue records for it."""

    waiting_bytes: int = 0
    waiting_packed: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, parcel: Parcel, times: int) -> None:
        """A parcel more (1) or less (-1) waits for its answer."""
        self.waiting_bytes += times * parcel.size
        self.waiting_packed += times * parcel.packed

    def is_free(self, group: Group) -> bool:
        """Whether aiokafka queues these at once. What is packed, and what comes after it, waits for all before it."""
        if self.turn.locked() or self.waiting_packed:
            return False
        if len(group.indices) >= PACKED_RECORDS:
            return not self.waiting_bytes
        return self.waiting_bytes + group.bytes <= MAX_BATCH_BYTES


def size(record: Record) -> int:
    """Bytes the record takes on the wire at most."""
    found: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, record.headers)
    return found


@lru_cache(100_000)
def key_hash(key: bytes) -> int:
    """Kafka's own hash of a key, as every client has it: modulo the partition count it is the partition."""
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
