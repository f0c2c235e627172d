"""Writes records to Kafka: aiokafka's idempotent producer with bounded memory, replaced when it breaks."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from touchpoint.base import telemetry, tracing
from touchpoint.base.errors import PermanentError, TransientError
from touchpoint.base.pausing import pause
from touchpoint.base.settings import KafkaSettings
from touchpoint.base.time_slice import TimeSlice
from touchpoint.contracts.record import Record
from touchpoint.kafka.packing import (
    MAX_BATCH_BYTES,
    MAX_RECORD_BYTES,
    Group,
    Lane,
    Parcel,
    Place,
    key_hash,
    parcels,
    size,
)
from touchpoint.kafka.spans import Sending
from touchpoint.kafka.watch import TopicWatch

IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""The limit of bytes that await Kafka's answer; aiokafka itself has no limit."""
REQUEST_TIMEOUT_MS = 120_000
"""A partition without a leader for longer breaks aiokafka's producer permanently (aio-libs/aiokafka#1017)."""
PROBE_SECONDS = 1
"""While Kafka acknowledges nothing, one call per this interval is let through to test it."""
STALLED_SECONDS = 3
"""If records wait and none was acknowledged for this long, new ones are refused at once instead of piling up."""
STOP_SECONDS = 5
CONNECT_SECONDS = 30
BACKOFF_SECONDS = 1

_HARMLESS = (KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError)
"""Errors while queuing that do not break the producer."""


class NotAcknowledgedError(TransientError):
    """Kafka has not acknowledged the record.

    Unless the message starts with "not sent", the record may still arrive. Send it again with the same event id:
    consumers apply it once.
    """


class RecordTooLargeError(PermanentError):
    """The record exceeds the size limit of the topics; it was not sent."""


SendError = NotAcknowledgedError | RecordTooLargeError
_Answer = asyncio.Future[object]


@dataclass(slots=True)
class _Call:
    """One call: its records, their outcomes (None: acknowledged), and the awaited answers by record index."""

    records: Sequence[Record]
    outcomes: list[SendError | None]
    answers: dict[_Answer, Sequence[int]] = field(default_factory=dict)
    time_slice: TimeSlice = field(default_factory=TimeSlice)

    def settle(self, indices: Sequence[int], outcome: SendError | None) -> None:
        for index in indices:
            self.outcomes[index] = outcome


class Producer:
    """Sends records and waits for all in-sync replicas: each is written once, and in order per partition.

    It connects in the background, and reconnects with a new producer id when its sequence numbers are broken; meanwhile
    `ready` is false and sends are refused. A send that times out is not cancelled: the record counts as bytes in flight
    until Kafka has answered.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        *,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        watch: TopicWatch | None = None,
    ) -> None:
        """`watch`: watches the topics written; nothing is sent while a deviation stops work."""
        self._options = {
            **settings.client_options(),
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "max_batch_size": MAX_BATCH_BYTES,
            "max_request_size": MAX_RECORD_BYTES,
            "linger_ms": 1,
        }
        self._watch = watch
        self._prefix = settings.topic_prefix
        self._budget = in_flight_bytes
        self._client: AIOKafkaProducer | None = None
        self._waiting: dict[_Answer, tuple[Lane, Parcel]] = {}
        self._lanes: dict[Place, Lane] = defaultdict(Lane)
        self._partitions: dict[str, int] = {}
        self._broken = asyncio.Event()
        self._connected = asyncio.Event()
        self._progress = 0.0
        self._probed = 0.0
        self._runner: asyncio.Task[None] | None = None
        self.in_flight_bytes = 0
        self._seconds = telemetry.SEND_SECONDS.labels(client_id)
        self._acknowledged = telemetry.PRODUCED.labels(client_id, "acknowledged")
        self._failed = telemetry.PRODUCED.labels(client_id, "failed")
        telemetry.IN_FLIGHT.labels(client_id).set_function(lambda: self.in_flight_bytes)

    @property
    def ready(self) -> bool:
        """Whether the producer is connected and Kafka acknowledges records."""
        if self._client is None or self._broken.is_set():
            return False
        return not self._waiting or asyncio.get_running_loop().time() - self._progress < STALLED_SECONDS

    async def check(self) -> str | None:
        """Readiness check: None, or the fault."""
        return None if self.ready else "Kafka does not acknowledge records"

    async def start(self, wait_seconds: float = 5) -> None:
        """Connect in the background; wait up to `wait_seconds` for the connection, which may also succeed later."""
        self._runner = asyncio.create_task(self._run(), name="kafka producer")
        await pause(self._connected, wait_seconds)

    async def stop(self) -> None:
        """Send the queued records, for STOP_SECONDS at most, and disconnect."""
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        await self._disconnect()

    async def send(self, record: Record, timeout_seconds: float = 10) -> None:
        """Send one record and return once Kafka acknowledges it. Raises NotAcknowledgedError or RecordTooLargeError."""
        [error] = await self.send_all((record,), timeout_seconds)
        if error is not None:
            raise error

    async def send_all(self, records: Sequence[Record], timeout_seconds: float = 10) -> list[SendError | None]:
        """Send records and wait for all of them; returns for each None if it was acknowledged, else its error.

        Records of one partition (hence of one key) are sent in order: if one cannot be queued, those after it are not
        sent. A record that is too large fails alone.
        """
        if (tracer := tracing.tracer()) is None:
            return await self._send_all(records, timeout_seconds)
        sending = Sending(tracer)
        outcomes = await self._send_all(await sending.begin(records), timeout_seconds)
        await sending.end(outcomes)
        return outcomes

    async def _send_all(self, records: Sequence[Record], timeout_seconds: float) -> list[SendError | None]:
        slow = NotAcknowledgedError("not sent: Kafka does not take records fast enough")
        call = _Call(records, [slow] * len(records))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        await self._queue(call, timeout_seconds)
        if call.answers:
            await asyncio.wait(call.answers, timeout=deadline - loop.time())  # after the timeout they stay in flight
        for answer, indices in call.answers.items():
            call.settle(indices, _outcome(answer))
        self._seconds.observe(loop.time() - deadline + timeout_seconds)
        acknowledged = call.outcomes.count(None)
        self._acknowledged.inc(acknowledged)
        self._failed.inc(len(records) - acknowledged)
        return call.outcomes

    def _may_send(self) -> bool:
        """Whether to send. While Kafka acknowledges nothing, one call per PROBE_SECONDS is let through as a probe.

        The waiting records may all be of a partition without a leader; only a record of another shows that Kafka works.
        """
        now = asyncio.get_running_loop().time()
        if self.ready:
            return True
        if self._broken.is_set() or now - max(self._probed, self._progress + STALLED_SECONDS) < PROBE_SECONDS:
            return False
        self._probed = now
        return True

    async def _queue(self, call: _Call, timeout_seconds: float) -> None:
        """Queue the records in aiokafka; partitions that have to wait do so concurrently, up to the timeout."""
        if self._watch is not None and self._watch.stops is not None:
            call.settle(range(len(call.records)), NotAcknowledgedError(f"not sent: {self._watch.stops}"))
            return
        client = self._client
        if client is None or not self._may_send():
            refused = NotAcknowledgedError("not sent: Kafka does not answer at the moment")
            call.settle(range(len(call.records)), refused)
            return
        try:
            groups = await self._by_partition(client, call, timeout_seconds)
        except KafkaError as error:
            call.settle(range(len(call.records)), self._refused(error))
            return
        waiting = []
        for place, group in groups.items():
            if self._lanes[place].is_free(group):
                await self._queue_partition(client, place, group.indices, call)
            else:
                waiting.append((place, group.indices))
        if waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as tasks:
                    for place, indices in waiting:
                        tasks.create_task(self._queue_partition(client, place, indices, call))

    async def _by_partition(self, client: AIOKafkaProducer, call: _Call, timeout_seconds: float) -> dict[Place, Group]:
        """Group the records by partition; those too large get an error and are left out."""
        groups: dict[Place, Group] = defaultdict(Group)
        for index, record in enumerate(call.records):
            if (bytes_ := size(record)) > MAX_RECORD_BYTES:
                call.outcomes[index] = RecordTooLargeError(f"a record may have {MAX_RECORD_BYTES} bytes with headers")
                continue
            topic = self._prefix + record.topic
            count = self._partitions.get(topic) or await self._count_partitions(client, topic, timeout_seconds)
            group = groups[topic, record.partition if record.partition >= 0 else key_hash(record.key) % count]
            group.indices.append(index)
            group.bytes += bytes_
            if call.time_slice.expired():
                await call.time_slice.pause()
        return groups

    async def _count_partitions(self, client: AIOKafkaProducer, topic: str, timeout_seconds: float) -> int:
        """The partition count of a topic, requested once. A `TopicWatch` checks that it does not change."""
        try:
            async with asyncio.timeout(timeout_seconds):
                partitions = await client.partitions_for(topic)
        except TimeoutError:
            raise KafkaTimeoutError from None
        self._partitions[topic] = len(partitions)
        return len(partitions)

    async def _queue_partition(self, client: AIOKafkaProducer, place: Place, indices: list[int], call: _Call) -> None:
        """Queue one partition's records in order, up to the first that cannot be queued.

        One caller at a time: aiokafka's own wait for a full queue is neither fair nor does it respect its timeout.
        """
        done, lane = 0, self._lanes[place]
        async with lane.turn:
            try:
                async for parcel in parcels(client, place, call.records, indices, call.time_slice):
                    if self.in_flight_bytes + parcel.size > self._budget and self._waiting:
                        raise NotAcknowledgedError("not sent: too many bytes are waiting for Kafka")
                    self._count(lane, parcel, 1)
                    try:
                        answer = await parcel.queue()
                    except BaseException:
                        self._count(lane, parcel, -1)
                        raise
                    self._await_answer(answer, lane, parcel)
                    call.answers[answer] = parcel.indices
                    done += len(parcel.indices)
            except NotAcknowledgedError as error:
                call.settle(indices[done:], error)
            except KafkaError as error:
                call.settle(indices[done:], self._refused(error))

    def _refused(self, error: KafkaError) -> NotAcknowledgedError:
        if not isinstance(error, _HARMLESS):  # aiokafka's sender task has died
            self._broken.set()
        return NotAcknowledgedError(f"not sent: {type(error).__name__}")

    def _await_answer(self, answer: _Answer, lane: Lane, parcel: Parcel) -> None:
        if not self._waiting:
            self._progress = asyncio.get_running_loop().time()
        self._waiting[answer] = lane, parcel
        answer.add_done_callback(self._answered)

    def _count(self, lane: Lane, parcel: Parcel, times: int) -> None:
        self.in_flight_bytes += times * parcel.size
        lane.count(parcel, times)

    def _answered(self, answer: _Answer) -> None:
        self._count(*self._waiting.pop(answer), -1)
        error = answer.exception()
        if error is None:
            self._progress = asyncio.get_running_loop().time()
        elif isinstance(error, KafkaError) and not self._broken.is_set():
            # Whatever the reason, the broker never received the batch's sequence numbers, and refuses all later ones.
            telemetry.log().error(telemetry.PRODUCER_BROKEN, error=type(error).__name__)
            self._broken.set()

    async def _run(self) -> None:
        """Connect, and reconnect whenever the producer breaks."""
        while True:
            client = await self._connect()
            self._broken.clear()
            self._client = client
            self._connected.set()
            await self._broken.wait()
            await self._disconnect()
            await asyncio.sleep(BACKOFF_SECONDS)

    async def _connect(self) -> AIOKafkaProducer:
        while True:
            client = AIOKafkaProducer(**self._options)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await client.start()
                return client
            except (KafkaError, OSError, TimeoutError) as error:
                telemetry.log().warning(telemetry.PRODUCER_UNREACHABLE, error=str(error) or type(error).__name__)
                await _close(client)
            except asyncio.CancelledError:
                await _close(client)
                raise
            await asyncio.sleep(BACKOFF_SECONDS)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _close(client)


async def _close(client: AIOKafkaProducer) -> None:
    """Stop a client and fail all sends that wait for it, within a bounded time.

    If Kafka is down, the client's own stop() waits for unsent records for ever (aio-libs/aiokafka#1101). So after
    STOP_SECONDS its parts are closed one by one: connections, sender, queue.
    """
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done():
        telemetry.log().warning(telemetry.PRODUCER_GAVE_UP)
        await client.client.close()
        await client._sender.close()
        client._message_accumulator.fail_all(
            NotAcknowledgedError("the connection to Kafka was closed before it answered")
        )
    await stopping


def _outcome(answer: _Answer) -> NotAcknowledgedError | None:
    if not answer.done():
        return NotAcknowledgedError("Kafka did not acknowledge in time; the record may still arrive")
    error = answer.exception()
    return None if error is None else NotAcknowledgedError(f"Kafka refused: {type(error).__name__}")
