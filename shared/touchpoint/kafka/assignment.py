"""Which partitions a consumer may read: those assigned to it whose offset it has read from PostgreSQL and sought."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError

from touchpoint import telemetry
from touchpoint.db import offsets
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.db.offsets import Move, Place, Position
from touchpoint.kafka import admin
from touchpoint.kafka.batch import HaltError
from touchpoint.settings import KafkaSettings

LEADER_SECONDS, LOOK_SECONDS = 5, 0.2


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

        Raises HaltError when the log is not the one the offsets were stored for: reading on would skip lost or
        re-created data in silence.
        """
        wanted = frozenset(self.stale)
        begins = await kafka.beginning_offsets(wanted)
        cluster_id = await admin.cluster_id(self._settings)
        positions = await self._positions({self.place(tp): begins[tp] for tp in wanted}, cluster_id)
        ends = await _ends(kafka, {tp: positions[self.place(tp)].next for tp in wanted})
        for tp in wanted & self.stale:
            position = positions[self.place(tp)]
            _check(tp, position, cluster_id, begins[tp], ends[tp])
            try:
                kafka.seek(tp, position.next)
            except IllegalStateError:  # revoked meanwhile; the next assignment says what is ours
                continue
            self.stale.discard(tp)
            self.starts[self.place(tp)] = position.next
        telemetry.log().info(telemetry.CONSUMER_ASSIGNED, consumer=self.consumer, partitions=len(self.starts))

    async def _positions(self, begins: Mapping[Place, int], cluster_id: str) -> Mapping[Place, Position]:
        async with transaction(self._sessions) as session:
            raw = await raw_connection(session)
            known = await offsets.load(raw, self.consumer)
            new = [(place, begin) for place, begin in begins.items() if place not in known]
            if not new:
                return known
            await offsets.create(raw, self.consumer, cluster_id, sorted(new))
            return await offsets.load(raw, self.consumer)

    async def move(self, moves: Sequence[Move]) -> None:
        """Store that these partitions are read further, where there is nothing to apply. Raises FenceLostError."""
        with self.progress((move.topic, move.partition) for move in moves) as moving:
            async with transaction(self._sessions) as session:
                await offsets.advance(await raw_connection(session), self.consumer, moves)
            moving.update({(move.topic, move.partition): move.end for move in moves})

    async def mark_read_through(self, reached: Sequence[tuple[str, int, int, datetime]]) -> None:
        """Note for (topic, partition, next, moment) that all appended before `moment` has been applied."""
        async with transaction(self._sessions) as session:
            await offsets.mark_read_through(await raw_connection(session), self.consumer, reached)


async def _ends(kafka: AIOKafkaConsumer, reached: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Where partitions end. A new leader takes a moment to learn how far its log is committed: until then it says less.

    What was reached is waited for, LEADER_SECONDS at most.
    """
    deadline = time.monotonic() + LEADER_SECONDS
    while True:
        ends: dict[TopicPartition, int] = await kafka.end_offsets(reached)
        if all(ends[tp] >= next_ for tp, next_ in reached.items()) or time.monotonic() > deadline:
            return ends
        await asyncio.sleep(LOOK_SECONDS)


def _check(tp: TopicPartition, position: Position, cluster_id: str, begin: int, end: int) -> None:
    if position.cluster_id != cluster_id:
        raise HaltError(
            f"{tp.topic}/{tp.partition}: offsets were stored for Kafka cluster {position.cluster_id}, "
            f"this one is {cluster_id}"
        )
    if position.next < begin:
        raise HaltError(f"{tp.topic}/{tp.partition}: records {position.next} to {begin - 1} are gone, never applied")
    if position.next > end:
        raise HaltError(
            f"{tp.topic}/{tp.partition}: the log ends at {end}, but records up to {position.next - 1} were applied: "
            "it was cut or made anew"
        )
