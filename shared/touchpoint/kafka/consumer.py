"""The consumer: reads, applies batches exactly once, backs off, halts, and reports its progress."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import datetime

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from sqlalchemy import text

from touchpoint.base import telemetry
from touchpoint.base.errors import TransientError
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.base.sqlstates import LOCK_NOT_AVAILABLE
from touchpoint.db import consumers, offsets
from touchpoint.db.consumers import ConsumerState
from touchpoint.db.engine import Sessions, blames_database, is_transient, raw_connection, sqlstate, transaction
from touchpoint.db.offsets import FenceLostError, Move, Place
from touchpoint.kafka.assignment import Assignment
from touchpoint.kafka.backoff import Backoff
from touchpoint.kafka.batch import Batches, Entry, HaltError, LiveFence, in_lanes
from touchpoint.kafka.client import LogConsumer
from touchpoint.kafka.dead_letter import Limit
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.leaving import leave
from touchpoint.kafka.reader import Reader
from touchpoint.kafka.watch import TopicWatch

KAFKA_TIMEOUT = 5.0
"""Timeout in seconds of secondary requests to Kafka (end offsets, commit); the loop does not wait for them."""
HORIZON_SECONDS = 0.5
"""Pause between two runs of the secondary work: state, end offsets, commit to Kafka."""
ELECTION_SECONDS = 2.0
"""Interval of the check for leader elections: after one, the log may have been truncated."""
PREPARE_SECONDS = 30.0
"""Timeout for making partitions ready, including the search for records that a truncated log has lost."""
FROZEN_SECONDS = 5.0
"""A database session that holds the lock on the offsets and is idle this long is terminated."""
STALL_SECONDS = 60.0
"""Without progress for this long, the process ends and has to be restarted."""

STARTING = ConsumerState("paused", "starting")


class StalledError(Exception):
    """The consumer hangs, or readable records do not arrive: the process must be restarted."""


@dataclass(slots=True)
class Consumer:
    """One member of a service's consumer group. `run` consumes until stopped; `check` is the readiness check."""

    name: str
    handlers: Handlers
    settings: KafkaSettings
    sessions: Sessions
    limit: Limit = field(default_factory=Limit)
    watch: TopicWatch | None = None
    """Watches the topics read: the consumer halts on a deviation that stops work."""
    _state: ConsumerState = field(default=STARTING, init=False)
    _assignment: Assignment = field(init=False)
    _batches: Batches = field(init=False)
    _backoff: Backoff = field(default_factory=Backoff, init=False)
    _last_error: str = field(default="", init=False)
    _blocked: bool = field(default=False, init=False)
    _to_write: ConsumerState | None = field(default=None, init=False)
    _mirrored: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    _horizon: dict[TopicPartition, tuple[int, datetime]] = field(default_factory=dict, init=False)
    _progress: float = field(default_factory=time.monotonic, init=False)
    _iterated: float = field(default_factory=time.monotonic, init=False)
    _prepared: float = field(default_factory=time.monotonic, init=False)
    """When all partitions were last ready."""
    _database_seen: float = field(default=0.0, init=False)
    _elections_seen: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._assignment = Assignment(self.name, self.settings, self.sessions)
        fence, limit = LiveFence(self.name), replace(self.limit)
        self._batches = Batches(self.name, self.handlers, self.sessions, limit, fence, ages=telemetry.EVENT_AGE)
        telemetry.start_consumer(self.name, self.handlers.topics)

    async def check(self) -> str | None:
        """Readiness check: why the consumer is not working; None while it is."""
        if self._state.state != "running":
            return f"{self._state.state}: {self._state.reason}"
        if (silent := time.monotonic() - self._iterated) > STALL_SECONDS / 2:
            return f"has not read or applied anything for {silent:.0f} s"
        return f"backing off after an error: {self._last_error}" if self._backoff.active else None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set. Raises StalledError when only a new process can help."""
        kafka = self._client()
        if not await self._start(kafka, stop):
            return
        kafka.subscribe([self.settings.topic_prefix + t for t in self.handlers.topics], listener=self._assignment)
        self._iterated = time.monotonic()
        parts = {
            asyncio.create_task(part)
            for part in (self._loop(kafka, stop), self._run_secondary(kafka), self._watch_loop())
        }
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            if error := await leave(kafka):
                telemetry.log().warning(telemetry.CONSUMER_UNREACHABLE, consumer=self.name, error=explain(error))

    async def _loop(self, kafka: LogConsumer, stop: asyncio.Event) -> None:
        reader = Reader(kafka, self._assignment, self.handlers)
        while not stop.is_set():
            await self._iterate(kafka, reader)
            self._iterated = time.monotonic()

    async def _watch_loop(self) -> None:
        """Detect a loop that hangs: aiokafka can wait for a rebalance for ever, or the network can drop packets."""
        while True:
            await asyncio.sleep(1)
            if time.monotonic() - self._iterated > STALL_SECONDS:
                telemetry.log().error(telemetry.CONSUMER_STALLED, consumer=self.name)
                raise StalledError(f"nothing was read or applied for {STALL_SECONDS:.0f} s")

    def _client(self) -> LogConsumer:
        return LogConsumer(
            self.settings,
            group_id=self.settings.topic_prefix + self.name,
            client_id=self.name,
            auto_offset_reset="none",  # records deleted by retention before they were read are an error
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            metadata_max_age_ms=30_000,
        )

    async def _start(self, kafka: LogConsumer, stop: asyncio.Event) -> bool:
        """Connect, retrying without limit; False if `stop` is set first."""
        while not stop.is_set():
            try:
                await kafka.start()
            except (KafkaError, OSError) as error:
                telemetry.KAFKA_UP.labels(self.name).set(0)
                telemetry.log().warning(telemetry.CONSUMER_UNREACHABLE, consumer=self.name, error=explain(error))
                await self._backoff.wait(stop)
            else:
                telemetry.KAFKA_UP.labels(self.name).set(1)
                self._backoff.succeeded()
                return True
        return False

    async def _iterate(self, kafka: LogConsumer, reader: Reader) -> None:
        """Make partitions ready, then apply the batch read before while reading the next.

        After an error reading is paused; polls and heartbeats continue.
        """
        try:
            working = self._state.state == "running" and not self._backoff.active and self._has_its_topics()
            await self._prepare(kafka, working)
            _pause(kafka, not working)
            applying = asyncio.create_task(self._apply(reader.take() if working else []), name="apply")
            try:
                await reader.read(applying)
            except asyncio.CancelledError:
                applying.cancel()
                raise
            finally:
                await applying
            await self._mark_reached(kafka, reader)
        except HaltError as error:
            self._halt(str(error))
        except FenceLostError as error:
            self._assignment.distrust()
            telemetry.RETRIES.labels(self.name, "fence_lost").inc()
            telemetry.log().info(telemetry.CONSUMER_FENCE_LOST, consumer=self.name, error=str(error))
        except Exception as error:
            if isinstance(error, TransientError | KafkaError) or is_transient(error):
                self._back_off(error)
            elif blames_database(error):
                self._halt(explain(error))
            else:
                raise

    async def _prepare(self, kafka: LogConsumer, working: bool) -> None:
        """Make stale partitions ready.

        Raises StalledError if that fails for STALL_SECONDS although PostgreSQL answers: after an outage of Kafka,
        aiokafka's client may wait for ever for an answer that a new client gets at once.
        """
        try:
            if working and self._assignment.stale:
                async with asyncio.timeout(PREPARE_SECONDS):
                    await self._assignment.prepare(kafka)
        except TimeoutError:
            now = time.monotonic()
            if self._database_seen > now - PREPARE_SECONDS and now - self._prepared > STALL_SECONDS:
                telemetry.log().error(telemetry.CONSUMER_STALLED, consumer=self.name)
                raise StalledError(f"no partition could be made ready for {now - self._prepared:.0f} s") from None
            raise
        if self._state.state != "running" or not self._assignment.stale:
            self._prepared = time.monotonic()

    def _halt(self, reason: str) -> None:
        self._assignment.distrust()
        self._state = ConsumerState("halted", reason)
        self._to_write = self._state
        telemetry.log().error(telemetry.CONSUMER_HALTED, consumer=self.name, reason=reason)

    def _has_its_topics(self) -> bool:
        """Whether the topics have been checked. Raises HaltError on a deviation that stops work."""
        if self.watch is None or self.watch.stops is None:
            return True
        if self.watch.looked:
            raise HaltError(self.watch.stops)
        return False

    async def _apply(self, entries: list[Entry]) -> None:
        if entries:
            await in_lanes(entries, self._apply_lane)
            self._backoff.succeeded()

    async def _apply_lane(self, entries: list[Entry]) -> None:
        places = {(entry.record.topic, entry.record.partition) for entry in entries}
        if not places <= self._assignment.starts.keys():
            return  # a rebalance happened since: the records are read again by the new owner
        with telemetry.BATCH_SECONDS.labels(self.name).time(), self._assignment.progress(places) as moving:
            await self._batches.apply(entries, moving)
        self._progress = time.monotonic()

    async def _mark_reached(self, kafka: LogConsumer, reader: Reader) -> None:
        """Store as read through the partitions that have reached the end offset seen before.

        The client's position is compared, not the stored offset: the log may end with transaction markers and aborted
        records, and the stored offset is then advanced past them. Partitions with records read but not yet applied do
        not count.
        """
        reached, passed, waiting = dict[Place, datetime](), list[Move](), reader.waiting()
        for tp, (end, moment) in list(self._horizon.items()):
            place = self._assignment.place(tp)
            start = self._assignment.starts.get(place)
            if start is None:
                continue
            if start < end:
                position = await kafka.position(tp)
                if place in waiting or position < end:
                    continue
                passed.append(Move(*place, start, position))
            reached[place] = moment
            del self._horizon[tp]
        if self._assignment.distrust_if_reconnected(kafka, map(self._assignment.partition, reached)):
            return
        if passed:
            await self._assignment.move(passed)
        if reached:
            starts = self._assignment.starts
            await self._assignment.mark_read_through(
                [(*place, starts[place], moment) for place, moment in reached.items() if place in starts]
            )

    def _back_off(self, error: Exception) -> None:
        self._assignment.distrust()
        seconds = self._backoff.failed()
        self._last_error = explain(error)
        self._blocked = sqlstate(error) == LOCK_NOT_AVAILABLE
        if not isinstance(error, KafkaError):
            self._progress = time.monotonic()
        telemetry.RETRIES.labels(self.name, "transient").inc()
        telemetry.log().warning(
            telemetry.CONSUMER_BACKING_OFF, consumer=self.name, error=self._last_error, seconds=round(seconds, 1)
        )

    async def _run_secondary(self, kafka: LogConsumer) -> None:
        """Secondary work beside the loop: database state, frozen peers, elections, end offsets, commits to Kafka."""
        while True:
            try:
                await self._follow_state()
                await self._end_frozen_peers()
                await self._look_for_elections(kafka)
                await self._look_ahead(kafka)
                await self._mirror_offsets(kafka)
            except (TimeoutError, KafkaError) as error:
                self._progress = time.monotonic()
                telemetry.KAFKA_UP.labels(self.name).set(0)
                telemetry.log().warning(telemetry.CONSUMER_UNREACHABLE, consumer=self.name, error=explain(error))
            except Exception as error:
                if not blames_database(error):
                    raise
                telemetry.log().warning(telemetry.CONSUMER_BACKING_OFF, consumer=self.name, error=explain(error))
            await asyncio.sleep(HORIZON_SECONDS)

    async def _follow_state(self) -> None:
        """Store a halt of this process in the database, else take over the state stored there."""
        halt = self._to_write
        async with transaction(self.sessions) as session:
            if halt is not None:
                await consumers.set_state(session, self.name, halt)
            state = await consumers.state(session, self.name)
        self._database_seen = time.monotonic()
        if self._to_write is not halt:  # the loop halted meanwhile
            return
        self._to_write = None
        if state.state == "running" and self._state.state != "running":
            # The allowance to skip was given to the process that halted, not to one that is only starting.
            may_skip = 0 if self._state is STARTING else state.may_skip
            self._batches.limit = replace(self.limit, may_skip=may_skip)
            self._progress = time.monotonic()
            telemetry.log().info(telemetry.CONSUMER_RESUMED, consumer=self.name)
        self._state = state
        telemetry.HALTED.labels(self.name).set(state.state == "halted")
        telemetry.PAUSED.labels(self.name).set(state.state == "paused")

    async def _end_frozen_peers(self) -> None:
        if self._blocked:
            async with transaction(self.sessions) as session:
                ended = await offsets.terminate_frozen(await raw_connection(session), FROZEN_SECONDS)
            self._blocked = False
            telemetry.log().warning(telemetry.CONSUMER_BLOCKER_TERMINATED, consumer=self.name, pids=ended)

    async def _look_ahead(self, kafka: LogConsumer) -> None:
        """Get the time, then the end offsets: records appended before that time lie before these ends."""
        ready = [self._assignment.partition(place) for place in self._assignment.starts]
        if not ready:
            return
        async with transaction(self.sessions) as session:
            moment = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
        async with asyncio.timeout(KAFKA_TIMEOUT):
            ends = await kafka.end_offsets(ready)
            if any(end < self._assignment.starts.get(self._assignment.place(tp), 0) for tp, end in ends.items()):
                self._assignment.distrust()
                return
            # Keep an end offset that is not reached yet: a consumer with a steady lag would never reach a moving one.
            self._horizon = {tp: self._horizon.get(tp, (end, moment)) for tp, end in ends.items()}
            telemetry.KAFKA_UP.labels(self.name).set(1)
            behind = [tp for tp, end in ends.items() if await kafka.position(tp) < end]
            # Records behind an open transaction cannot be read: waiting for them is no stall.
            readable = await kafka.readable_ends(behind) if behind else {}
        self._watch([tp for tp, end in readable.items() if await kafka.position(tp) < end])

    async def _look_for_elections(self, kafka: LogConsumer) -> None:
        if self._assignment.starts and time.monotonic() - self._elections_seen > ELECTION_SECONDS:
            async with asyncio.timeout(KAFKA_TIMEOUT):
                await self._assignment.distrust_if_elected(kafka)
            self._elections_seen = time.monotonic()

    def _watch(self, behind: list[TopicPartition]) -> None:
        """Raise StalledError if readable records do not arrive: a client can stall (aio-libs/aiokafka#1154)."""
        if not behind or self._state.state != "running":
            self._progress = time.monotonic()
        elif time.monotonic() - self._progress > STALL_SECONDS:
            telemetry.log().error(telemetry.CONSUMER_STALLED, consumer=self.name, partitions=len(behind))
            raise StalledError(
                f"no records arrived for {STALL_SECONDS:.0f} s, although {len(behind)} partitions have unread ones"
            )

    async def _mirror_offsets(self, kafka: LogConsumer) -> None:
        """Commit the offsets to Kafka, for lag dashboards and autoscaling only: Touchpoint does not read them."""
        current = {self._assignment.partition(place): n for place, n in self._assignment.starts.items()}
        if current and current != self._mirrored:
            commit = {tp: OffsetAndMetadata(following, "") for tp, following in current.items()}
            async with asyncio.timeout(KAFKA_TIMEOUT):
                await kafka.commit(commit)
            self._mirrored = current


def _pause(kafka: LogConsumer, pausing: bool) -> None:
    """Pause or resume fetching from all assigned partitions; heartbeats and polls continue."""
    if pausing:
        kafka.pause(*kafka.assignment())
    elif paused := kafka.paused():
        kafka.resume(*paused)
