"""Reads ranges of the log without a consumer group, so that the live consumer's offsets are not changed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition

from touchpoint.base.errors import UnreachableError
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.db.offsets import Place
from touchpoint.kafka import admin
from touchpoint.kafka.client import LogConsumer
from touchpoint.kafka.leaving import leave
from touchpoint.kafka.reader import read_record

BATCH_RECORDS = 10_000
POLL_MS = 500
SILENT_SECONDS = 60.0
"""Timeout of a read without any record."""
HELD_SECONDS = 2.0
"""A transaction open for longer is reported: most last for milliseconds."""

Spans = Mapping[Place, tuple[int, int]]
"""For each partition the first offset to read, and the offset to stop before."""


@asynccontextmanager
async def group_less(settings: KafkaSettings, **options: Any) -> AsyncIterator[LogConsumer]:
    """A started consumer without a group; `options` are passed to aiokafka. Raises Kafka's own errors."""
    kafka = LogConsumer(settings, **options, auto_offset_reset="none")
    try:
        await kafka.start()
        yield kafka
    finally:
        await leave(kafka)


def partition(settings: KafkaSettings, place: Place) -> TopicPartition:
    """The partition with the topic's name in Kafka (with prefix)."""
    return TopicPartition(settings.topic_prefix + place[0], place[1])


async def read(kafka: LogConsumer, prefix: str, spans: Spans) -> AsyncIterator[list[Record]]:
    """Read the records of these spans, in order within each partition. Raises UnreachableError if no records arrive."""
    waiting = {TopicPartition(prefix + topic, n): span[1] for (topic, n), span in spans.items() if span[0] < span[1]}
    topics = {tp: tp.topic.removeprefix(prefix) for tp in waiting}
    kafka.assign(list(waiting))
    for tp in waiting:
        kafka.seek(tp, spans[topics[tp], tp.partition][0])
    last_seen = time.monotonic()
    while waiting:
        async with asyncio.timeout(SILENT_SECONDS):  # aiokafka may wait for ever
            fetched = await kafka.getmany(*waiting, timeout_ms=POLL_MS, max_records=BATCH_RECORDS)
            # The position, not the last record's offset: the span may end with transaction markers.
            positions = {tp: await kafka.position(tp) for tp in waiting}
        records = [
            read_record(topics[tp], each) for tp in sorted(fetched) for each in fetched[tp] if each.offset < waiting[tp]
        ]
        if records:
            last_seen = time.monotonic()
            yield records
        elif time.monotonic() - last_seen > SILENT_SECONDS:
            raise UnreachableError(f"Kafka returned no records for {SILENT_SECONDS:.0f} s: is it overloaded?")
        waiting = {tp: end for tp, end in waiting.items() if positions[tp] < end}


class Log:
    """A connected log, with topics given by their logical names."""

    def __init__(self, client: LogConsumer, prefix: str, cluster_id: str, partitions: Mapping[str, int]) -> None:
        self._client = client
        self._prefix = prefix
        self.cluster_id = cluster_id
        self._partitions = partitions

    async def ends(self, topics: Iterable[str]) -> dict[Place, int]:
        """The last stable offset of every partition of these topics: it does not lie behind an open transaction."""
        return self._by_place(await self._client.readable_ends(self._all(topics)))

    async def begins(self, topics: Iterable[str], since: datetime | None = None) -> dict[Place, int]:
        """The first offset of every partition, or the first that was appended at `since` or later."""
        partitions = self._all(topics)
        if since is None:
            return self._by_place(await self._client.beginning_offsets(partitions))
        milliseconds = int(since.timestamp() * 1000)
        ends = await self._client.readable_ends(partitions)
        since_offsets = await self._client.offsets_for_times(dict.fromkeys(partitions, milliseconds))
        return self._by_place({tp: first.offset if (first := since_offsets[tp]) else ends[tp] for tp in partitions})

    async def held_back(self, topics: Iterable[str]) -> dict[Place, int]:
        """Partitions with a transaction open for HELD_SECONDS or more: the first offset that it makes unreadable."""
        held: dict[Place, int] = {}
        for waiting in (HELD_SECONDS, 0):
            partitions = [self._partition(place) for place in held] or self._all(topics)
            ends, readable = [
                self._by_place(offsets)
                for offsets in (
                    await self._client.end_offsets(partitions),
                    await self._client.readable_ends(partitions),
                )
            ]
            held = {place: end for place, end in readable.items() if end < ends[place] and held.get(place, end) == end}
            if not held:
                break
            await asyncio.sleep(waiting)
        return held

    def read(self, spans: Spans) -> AsyncIterator[list[Record]]:
        """The records of these spans; see the function `read`."""
        return read(self._client, self._prefix, spans)

    def _all(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [self._partition((topic, n)) for topic in topics for n in range(self._partitions.get(topic, 0))]

    def _partition(self, place: Place) -> TopicPartition:
        return TopicPartition(self._prefix + place[0], place[1])

    def _place(self, tp: TopicPartition) -> Place:
        return tp.topic.removeprefix(self._prefix), tp.partition

    def _by_place(self, offsets: Mapping[TopicPartition, int]) -> dict[Place, int]:
        return {self._place(tp): offset for tp, offset in offsets.items()}


@asynccontextmanager
async def connected(settings: KafkaSettings, topics: Iterable[str]) -> AsyncIterator[Log]:
    """Connect to the log of these topics. Raises UsageError if Kafka cannot be reached or refuses the request."""
    prefix = settings.topic_prefix
    async with admin.connected(settings) as client:
        cluster = await client.describe_cluster()
        described = await client.describe_topics([prefix + topic for topic in topics])
        partitions = {topic["topic"].removeprefix(prefix): len(topic["partitions"]) for topic in described}
        async with group_less(settings) as reader:
            yield Log(reader, prefix, str(cluster["cluster_id"]), partitions)
