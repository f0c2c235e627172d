"""Which partitions a consumer may read: those assigned to it whose offset it has read from PostgreSQL and sought."""

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
    """What a partition's log was read from when it was last examined."""

    connection: object
    """To its leader. No log is cut or replaced under a connection that lives, but for elections."""
    topic_id: UUID
    epoch: int
    """Of its leader."""


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The partitions of one member of the group.

    The rebalance callbacks only mark partitions stale, synchronously: while a callback awaits, records from before the
    seek are already being delivered, and what it raises is swallowed. `prepare` then does the work in the loop.
    """

    def __init__(self, consumer: str, settings: KafkaSettings, sessions: Sessions) -> None:
        self.starts: dict[Place, int] = {}
        """Ready partitions, and the first offset not yet applied in each."""
        self.stale: set[TopicPartition] = set()
        """Assigned, not yet ready."""
        self.generation = 0
        """Another number whenever all that was read before is to be forgotten."""
        self._sources: dict[TopicPartition, Source] = {}
        self._suspicion: str | None = None
        self.consumer = consumer
        self._settings = settings
        self._sessions = sessions

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Before a rebalance: nothing is ours until it is assigned again."""
        self._renew(())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """After a rebalance: these are ours, from now on."""
        self._renew(assigned)

    def distrust(self) -> None:
        """Read all offsets anew before going on: the fence was lost, or a batch was rolled back."""
        self._renew({*self.stale, *map(self.partition, self.starts)})

    def suspect(self, why: str) -> None:
        """The log has behaved strangely: examine it before going on, and halt for this reason if it looks whole."""
        self._suspicion = why
        self.distrust()

    def distrust_if_reconnected(self, kafka: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> bool:
        """Distrust all when a leader of these is not the broker, or not behind the connection, that was examined."""
        for tp in partitions:
            source = self._sources.get(tp)
            if source is None or _connection(kafka, tp) is not source.connection:
                self.distrust()
                return True
        return False

    async def distrust_if_elected(self, kafka: AIOKafkaConsumer) -> None:
        """Distrust all when a ready partition has had an election since it was examined, or its topic is another."""
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
        """The starts of these partitions, to be moved on as their records are applied.

        If a rebalance comes meanwhile, how far they went is for `prepare` to read: nothing becomes ready by it.
        """
        generation, moving = self.generation, {place: self.starts[place] for place in places}
        yield moving
        if generation == self.generation:
            self.starts.update(moving)

    def place(self, partition: TopicPartition) -> Place:
        """The logical topic and partition."""
        return partition.topic.removeprefix(self._settings.topic_prefix), partition.partition

    def partition(self, place: Place) -> TopicPartition:
        """The inverse of `place`."""
        return TopicPartition(self._settings.topic_prefix + place[0], place[1])

    async def prepare(self, kafka: AIOKafkaConsumer) -> None:
        """Seek every stale partition to where PostgreSQL says this consumer stands, and make it ready.

        Raises HaltError when the log is not the one the offsets were stored for, and notes what is lost: reading on
        would skip lost or re-created data in silence.
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
            except IllegalStateError:  # revoked meanwhile; the next assignment says what is ours
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
        """Store that these partitions are read further, where there is nothing to apply. Raises FenceLostError."""
        with self.progress((move.topic, move.partition) for move in moves) as moving:
            async with transaction(self._sessions) as session:
                await offsets.advance(await raw_connection(session), self.consumer, moves)
            moving.update({(move.topic, move.partition): move.end for move in moves})

    async def _examine(self, ours: Mapping[Place, Position], every: Mapping[Place, Position]) -> None:
        """Raise HaltError unless our partitions are what they were. Where one is not, all of the consumer are examined.

        What is lost is then accepted in one step, and not partition by partition.
        """
        suspicion, self._suspicion = self._suspicion, None
        async with transaction(self._sessions) as session:
            raw = await raw_connection(session)
            examined = await examine(raw, self._settings, self.consumer, ours)
            if examined.losses:
                examined = await examine(raw, self._settings, self.consumer, every)
                await losses.note(session, self.consumer, examined.losses)
            else:
                new = {place: found for place, found in examined.known.items() if found != ours[place]}
                await offsets.learn(raw, self.consumer, new)
        if examined.losses:
            raise HaltError(f"Kafka has lost records: {'; '.join(loss.why for loss in examined.losses)}"[:500])
        if suspicion:
            raise HaltError(suspicion)

    async def mark_read_through(self, reached: Sequence[tuple[str, int, int, datetime]]) -> None:
        """Note for (topic, partition, next, moment) that all appended before `moment` has been applied."""
        async with transaction(self._sessions) as session:
            await offsets.mark_read_through(await raw_connection(session), self.consumer, reached)


async def _reached(kafka: AIOKafkaConsumer, reached: Mapping[TopicPartition, int]) -> None:
    """Wait until partitions end where they were read to, LEADER_SECONDS at most.

    A new leader takes a moment to learn how far its log is committed: until then it says less.
    """
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        ends: dict[TopicPartition, int] = await kafka.end_offsets(reached)
        if all(ends[tp] >= next_ for tp, next_ in reached.items()) or time.monotonic() > deadline:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _connection(kafka: AIOKafkaConsumer, tp: TopicPartition) -> object:
    """The connection records of this partition are fetched through; another object when it was made anew."""
    client = kafka._client  # aiokafka itself does not tell
    return client._conns.get((client.cluster.leader_for_partition(tp), ConnectionGroup.DEFAULT))
