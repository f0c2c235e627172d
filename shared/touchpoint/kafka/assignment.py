"""The partitions a consumer may read: assigned, and its client seeked to the offset stored in PostgreSQL."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import IllegalStateError

from touchpoint.base import telemetry
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import losses, offsets
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.db.offsets import Move, Place, Position
from touchpoint.kafka import metadata
from touchpoint.kafka.batch import HaltError
from touchpoint.kafka.identity import examine
from touchpoint.kafka.metadata import Cluster

LEADER_SECONDS, LOOK_SECONDS = 5, 0.2


class Source(NamedTuple):
    """Where a partition's log was read from when it was last checked for truncation or replacement."""

    connection: object
    """To the partition's leader. Without an election a log is not truncated or replaced while this stays connected."""
    topic_id: UUID
    epoch: int
    """The leader epoch: it grows with every election."""


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The partitions of one member of the consumer group.

    The rebalance callbacks only mark partitions stale, synchronously: while a callback awaits, aiokafka already
    delivers records from before the seek, and it swallows exceptions of callbacks. `prepare` does the work, in the
    consumer's loop.
    """

    def __init__(self, consumer: str, settings: KafkaSettings, sessions: Sessions) -> None:
        self.starts: dict[Place, int] = {}
        """The ready partitions, with the first offset not yet applied in each."""
        self.stale: set[TopicPartition] = set()
        """Partitions assigned but not yet ready."""
        self.generation = 0
        """Increases whenever all records read so far must be discarded."""
        self._sources: dict[TopicPartition, Source] = {}
        self._suspicion: str | None = None
        self.consumer = consumer
        self._settings = settings
        self._sessions = sessions

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Before a rebalance: give up all partitions until they are assigned again."""
        self._renew(())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """After a rebalance: take over these partitions."""
        self._renew(assigned)

    def distrust(self) -> None:
        """Mark all partitions stale, so that their offsets are reloaded, after a lost fence or a rollback."""
        self._renew({*self.stale, *map(self.partition, self.starts)})

    def suspect(self, why: str) -> None:
        """Have the log examined before reading on; if that shows no loss, halt with the reason `why`."""
        self._suspicion = why
        self.distrust()

    def distrust_if_reconnected(self, kafka: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> bool:
        """Distrust all partitions if a leader of these, or the connection to it, has changed since `prepare`."""
        for tp in partitions:
            source = self._sources.get(tp)
            if source is None or _connection(kafka, tp) is not source.connection:
                self.distrust()
                return True
        return False

    async def distrust_if_elected(self, kafka: AIOKafkaConsumer) -> None:
        """Distrust all if a ready partition had a leader election, or its topic was recreated, since `prepare`."""
        ready = [self.partition(place) for place in self.starts]
        cluster = await metadata.describe(kafka._client, sorted({tp.topic for tp in ready}))
        for tp in ready:
            topic_id, partition = cluster.place(tp)
            source = self._sources.get(tp)
            if source is None or topic_id != source.topic_id or partition.epoch > source.epoch:
                self.distrust()
                return

    def _renew(self, stale: Iterable[TopicPartition]) -> None:
        self.generation += 1
        self.starts = {}
        self.stale = set(stale)

    @contextmanager
    def progress(self, places: Iterable[Place]) -> Iterator[dict[Place, int]]:
        """The starts of these partitions, for the block to advance as their records are applied.

        If a rebalance happens inside the block, its progress is dropped here: `prepare` reloads it from PostgreSQL.
        """
        generation, moving = self.generation, {place: self.starts[place] for place in places}
        yield moving
        if generation == self.generation:
            self.starts.update(moving)

    def place(self, partition: TopicPartition) -> Place:
        """The logical topic (without prefix) and the partition number."""
        return partition.topic.removeprefix(self._settings.topic_prefix), partition.partition

    def partition(self, place: Place) -> TopicPartition:
        """The inverse of `place`."""
        return TopicPartition(self._settings.topic_prefix + place[0], place[1])

    async def prepare(self, kafka: AIOKafkaConsumer) -> None:
        """Seek every stale partition to the offset stored in PostgreSQL, and make it ready.

        Raises HaltError when the log is not the one the offsets were stored for, and stores the lost ranges: reading on
        would silently skip lost or recreated data.
        """
        wanted = frozenset(self.stale)
        begins = await kafka.beginning_offsets(wanted)
        connections = {tp: _connection(kafka, tp) for tp in wanted}  # before the log is examined
        cluster = await metadata.describe(kafka._client, sorted({tp.topic for tp in wanted}))
        positions = await self._positions({self.place(tp): begins[tp] for tp in wanted}, cluster)
        await _reached(kafka, {tp: positions[self.place(tp)].next for tp in wanted})
        await self._examine({self.place(tp): positions[self.place(tp)] for tp in wanted}, positions)
        for tp in wanted & self.stale:
            following = positions[self.place(tp)].next
            try:
                kafka.seek(tp, following)
            except IllegalStateError:  # revoked meanwhile; the next assignment decides
                continue
            topic_id, partition = cluster.place(tp)
            self._sources[tp] = Source(connections[tp], topic_id, partition.epoch)
            self.stale.discard(tp)
            self.starts[self.place(tp)] = following
        telemetry.log().info(telemetry.CONSUMER_ASSIGNED, consumer=self.consumer, partitions=len(self.starts))

    async def _positions(self, begins: Mapping[Place, int], cluster: Cluster) -> Mapping[Place, Position]:
        async with transaction(self._sessions) as session:
            raw = await raw_connection(session)
            known = await offsets.load(raw, self.consumer)
            new = [(place, begin) for place, begin in begins.items() if place not in known]
            if not new:
                return known
            await offsets.create(raw, self.consumer, cluster.id, sorted(new))
            return await offsets.load(raw, self.consumer)

    async def move(self, moves: Sequence[Move]) -> None:
        """Advance the stored offsets of these partitions past records that need no applying. Raises FenceLostError."""
        with self.progress((move.topic, move.partition) for move in moves) as moving:
            async with transaction(self._sessions) as session:
                await offsets.advance(await raw_connection(session), self.consumer, moves)
            moving.update({(move.topic, move.partition): move.end for move in moves})

    async def _examine(self, ours: Mapping[Place, Position], every: Mapping[Place, Position]) -> None:
        """Raise HaltError if the log of one of our partitions is not the one that was read.

        If so, all partitions of the consumer are examined, so that an operator accepts all losses in one step.
        """
        suspicion, self._suspicion = self._suspicion, None
        async with transaction(self._sessions) as session:
            raw = await raw_connection(session)
            examined = await examine(raw, self._settings, self.consumer, ours)
            if examined.losses:
                examined = await examine(raw, self._settings, self.consumer, every)
                await losses.note(session, self.consumer, examined.losses)
            else:
                new = {place: known for place, known in examined.known.items() if known != ours[place]}
                await offsets.learn(raw, self.consumer, new)
        if examined.losses:
            raise HaltError(f"Kafka has lost records: {'; '.join(loss.why for loss in examined.losses)}"[:500])
        if suspicion:
            raise HaltError(suspicion)

    async def mark_read_through(self, reached: Sequence[tuple[str, int, int, datetime]]) -> None:
        """Store for each (topic, partition, next, moment) that all records appended before `moment` are applied."""
        async with transaction(self._sessions) as session:
            await offsets.mark_read_through(await raw_connection(session), self.consumer, reached)


async def _reached(kafka: AIOKafkaConsumer, reached: Mapping[TopicPartition, int]) -> None:
    """Wait until the end of each partition has reached the offset read so far, LEADER_SECONDS at most.

    A new leader learns the high watermark with a delay, and reports a lower one until then.
    """
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        ends: dict[TopicPartition, int] = await kafka.end_offsets(reached)
        if all(ends[tp] >= next_ for tp, next_ in reached.items()) or time.monotonic() > deadline:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _connection(kafka: AIOKafkaConsumer, tp: TopicPartition) -> object:
    """The connection through which this partition is fetched; a reconnect yields another object."""
    client = kafka._client  # aiokafka has no public access to it
    return client._conns.get((client.cluster.leader_for_partition(tp), ConnectionGroup.DEFAULT))
