"""The producer against real Kafka: order, memory bounds, recovery and shutdown."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from touchpoint.base import time_slice
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import FEEDBACK, TOUCHPOINTS
from touchpoint.kafka import producer as module
from touchpoint.kafka.packing import size
from touchpoint.kafka.producer import NotAcknowledgedError, Producer, RecordTooLargeError
from touchpoint.testing import eventually, others


def record(value: bytes = b"{}", key: bytes = b"acme:c-1", partition: int = -1) -> Record:
    return Record(TOUCHPOINTS, key, value, [("ce_id", b"e-1")], partition)


async def read_back(kafka: KafkaSettings, count: int, topic: str = TOUCHPOINTS) -> list[Record]:
    """The first `count` records of a topic, per partition in log order."""
    consumer = AIOKafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(kafka.topic_prefix + topic, p) for p in range(kafka.partitions)])
        records: list[Record] = []
        async with asyncio.timeout(20):
            while len(records) < count:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += [Record(topic, m.key, m.value, list(m.headers), m.partition, m.offset) for m in batch]
        return records
    finally:
        await consumer.stop()


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[Producer]:
    producer = Producer(kafka, "test")
    await producer.start()
    yield producer
    await producer.stop()


def mute(producer: Producer) -> None:
    """Simulate a broker that does not answer: from now on nothing is sent and nothing fails."""
    producer._client._sender._muted_partitions = EveryPartition()


def unmute(producer: Producer) -> None:
    producer._client._sender._muted_partitions = set()
    producer._client._message_accumulator._waiter_future.set_result(None)


class EveryPartition(set):
    def __contains__(self, _: object) -> bool:
        return True


async def test_when_send_returns_the_record_is_in_the_log(kafka, producer):
    await producer.send(record(b'{"a": 1}'))

    [arrived] = await read_back(kafka, 1)
    assert (arrived.key, arrived.value, arrived.headers) == (b"acme:c-1", b'{"a": 1}', [("ce_id", b"e-1")])
    assert producer.in_flight_bytes == 0


async def test_records_of_one_key_keep_their_order_over_many_requests(kafka, producer):
    records = [record(b"%d" % n + b" " * 2000, key=b"acme:%d" % (n % 7)) for n in range(3000)]
    parts = [records[:1000], records[1000:1005], records[1005:2000], *([r] for r in records[2000:2020]), records[2020:]]

    for part in parts:
        assert await producer.send_all(part) == [None] * len(part)

    arrived = await read_back(kafka, 3000)
    assert len(arrived) == 3000
    for key in {r.key for r in records}:
        assert [r.value for r in arrived if r.key == key] == [r.value for r in records if r.key == key]


async def test_a_large_call_yields_to_other_tasks_and_keeps_its_order(kafka, producer, monkeypatch):
    monkeypatch.setattr(time_slice, "SLICE_SECONDS", 0)
    records = [record(b"%d" % n, key=b"acme:%d" % (n % 7)) for n in range(500)]

    async with others() as counted:
        assert await producer.send_all(records) == [None] * 500

    assert counted["iterations"] >= 1000  # yields while grouping by partition, and while packing
    arrived = await read_back(kafka, 500)
    for key in {r.key for r in records}:
        assert [r.value for r in arrived if r.key == key] == [r.value for r in records if r.key == key]


async def test_a_key_has_the_same_partition_as_with_other_kafka_clients(kafka, producer):
    records = [record(b"%d" % n, key=b"acme:c-%d" % n) for n in range(30)]
    await producer.send_all(records)
    client = AIOKafkaProducer(**kafka.client_options())
    await client.start()
    for r in records:
        await client.send_and_wait(kafka.topic_prefix + TOUCHPOINTS, r.value, r.key)
    await client.stop()

    places = defaultdict(set)
    for arrived in await read_back(kafka, 60):
        places[arrived.key].add(arrived.partition)
    assert len(places) == 30
    assert {len(partitions) for partitions in places.values()} == {1}


async def test_records_of_many_concurrent_callers_all_arrive(kafka, producer):
    async def call(number: int) -> list[object]:
        count = (1, 40, 7)[number % 3]
        return await producer.send_all([record(b"%d" % n, key=b"acme:%d" % n) for n in range(count)])

    outcomes = await asyncio.gather(*map(call, range(300)))

    assert not any(error for outcome in outcomes for error in outcome)
    assert len(await read_back(kafka, 4800)) == 4800
    assert producer.in_flight_bytes == 0


async def test_a_record_with_a_partition_is_sent_to_it_whatever_its_key(kafka, producer):
    await producer.send_all([record(partition=partition) for partition in (2, 0, 1)])

    assert sorted(arrived.partition for arrived in await read_back(kafka, 3)) == [0, 1, 2]


async def test_a_too_large_record_is_refused_and_the_others_are_sent(kafka, producer):
    large = record(b"x" * module.MAX_RECORD_BYTES)

    first, refused, last = await producer.send_all([record(b"1"), large, record(b"2")])

    assert (first, last) == (None, None)
    assert isinstance(refused, RecordTooLargeError)
    assert [arrived.value for arrived in await read_back(kafka, 2)] == [b"1", b"2"]
    assert producer.ready


async def test_the_topics_accept_the_largest_allowed_record(kafka, producer):
    await producer.send(record(b"x" * (module.MAX_RECORD_BYTES - 200)))

    [arrived] = await read_back(kafka, 1)
    assert len(arrived.value) == module.MAX_RECORD_BYTES - 200


async def test_a_send_that_timed_out_counts_as_in_flight_until_kafka_responds(kafka, producer):
    await producer.send(record(b"0"))
    mute(producer)

    with pytest.raises(NotAcknowledgedError, match="may still arrive"):
        await producer.send(record(b"late"), timeout_seconds=0.05)
    assert producer.in_flight_bytes == size(record(b"late"))

    unmute(producer)
    await eventually(lambda: producer.in_flight_bytes == 0)
    assert [arrived.value for arrived in await read_back(kafka, 2)] == [b"0", b"late"]


async def test_records_over_the_memory_budget_are_refused(kafka, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    producer = Producer(kafka, "test", in_flight_bytes=3 * size(record()))
    await producer.start()
    try:
        await producer.send(record())
        mute(producer)
        outcomes = await producer.send_all([record()] * 5, timeout_seconds=0.05)
        assert ["may still arrive" in str(o) for o in outcomes] == [True] * 3 + [False] * 2
        assert "too many bytes are waiting" in str(outcomes[3])
        assert producer.in_flight_bytes == 3 * size(record())
    finally:
        await producer.stop()
    assert producer.in_flight_bytes == 0


async def test_while_kafka_acknowledges_nothing_new_records_are_refused_at_once(kafka, producer, monkeypatch):
    await producer.send(record())
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.05)
    mute(producer)
    with pytest.raises(NotAcknowledgedError):
        await producer.send(record(), timeout_seconds=0.1)

    started = time.monotonic()
    with pytest.raises(NotAcknowledgedError, match="not sent"):
        await producer.send(record())

    assert time.monotonic() - started < 0.05
    assert not producer.ready
    assert await producer.check() is not None
    unmute(producer)
    await eventually(lambda: producer.ready)


async def test_a_partition_without_a_leader_blocks_the_others_only_briefly(kafka, producer, monkeypatch):
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.05)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)
    await producer.send(record(partition=1))
    producer._client._sender._muted_partitions = {TopicPartition(kafka.topic_prefix + TOUCHPOINTS, 0)}
    with pytest.raises(NotAcknowledgedError):
        await producer.send(record(partition=0), timeout_seconds=0.2)

    async def through() -> bool:
        return await producer.send_all([record(partition=1)]) == [None]

    await eventually(through)
    unmute(producer)


@pytest.mark.parametrize("before", [1, 20])
@pytest.mark.parametrize("more", [1, 20])
async def test_a_partition_without_a_leader_does_not_delay_others_of_the_same_call(kafka, producer, before, more):
    await producer.send(record(partition=1))
    producer._client._sender._muted_partitions = {TopicPartition(kafka.topic_prefix + TOUCHPOINTS, 0)}
    await producer.send_all([record(partition=0)] * before, timeout_seconds=0.1)

    outcomes = await producer.send_all([record(partition=n % 2) for n in range(2 * more)], timeout_seconds=0.3)

    assert [outcome is None for outcome in outcomes] == [False, True] * more
    unmute(producer)
    await eventually(lambda: producer.in_flight_bytes == 0)


async def test_a_broken_sequence_number_replaces_the_client(kafka, producer, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)
    await producer.send(record(b"before"))
    broken = producer._client
    sequences = broken._txn_manager._sequence_numbers
    for partition in list(sequences):
        sequences[partition] += 5  # the gap left by a batch that Kafka refused permanently

    with pytest.raises(NotAcknowledgedError, match="OutOfOrderSequenceNumber"):
        await producer.send(record(b"lost"))
    assert not producer.ready

    await eventually(lambda: producer.ready)
    await producer.send(record(b"after"))
    assert producer._client is not broken
    assert [arrived.value for arrived in await read_back(kafka, 2)] == [b"before", b"after"]


async def test_an_unknown_topic_fails_only_its_own_records(kafka, producer):
    unknown = Record("no-such-topic.v1", b"k", b"{}", [])
    with pytest.raises(NotAcknowledgedError):
        await producer.send(unknown, timeout_seconds=0.3)

    await producer.send(Record(FEEDBACK, b"k", b"{}", []))
    assert producer.ready


async def test_without_kafka_a_producer_starts_refuses_and_stops_within_seconds(kafka):
    nowhere = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    producer = Producer(nowhere, "test")
    started = time.monotonic()
    await producer.start(wait_seconds=0.1)
    with pytest.raises(NotAcknowledgedError, match="not sent"):
        await producer.send(record())
    await producer.stop()
    assert time.monotonic() - started < 3
    assert not producer.ready


async def test_a_stop_with_an_unacknowledged_record_is_bounded_and_leaves_no_task(kafka, producer, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    await producer.send(record())
    before = asyncio.all_tasks()
    mute(producer)
    waiting = asyncio.create_task(producer.send(record(), timeout_seconds=60))
    await eventually(lambda: producer.in_flight_bytes)

    started = time.monotonic()
    await producer.stop()

    assert time.monotonic() - started < 3
    with pytest.raises(NotAcknowledgedError):
        await waiting
    await eventually(lambda: not (asyncio.all_tasks() - before))
