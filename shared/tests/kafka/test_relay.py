"""The relay against real Kafka and PostgreSQL."""

import asyncio
import json

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.base.errors import NotFoundError
from touchpoint.contracts.record import Record
from touchpoint.db import outbox
from touchpoint.db.engine import transaction
from touchpoint.kafka.relay import Relay
from touchpoint.testing import eventually
from touchpoint.testing.factories import escalation_opened

TOPIC = "escalations.v1"


async def test_events_arrive_in_the_order_they_were_published(log, ledger, kafka):
    for number in range(5):
        async with transaction(ledger.sessions) as session:
            await outbox.publish(session, *_events(number * 100, 100))
    async with _relays(ledger, kafka, 1):
        await eventually(lambda: _empty(ledger))
    assert await _sent(kafka) == [str(n) for n in range(500)]


async def test_two_concurrent_relays_keep_the_order(log, ledger, kafka):
    async with _relays(ledger, kafka, 2):
        for number in range(20):
            async with transaction(ledger.sessions) as session:
                await outbox.publish(session, *_events(number * 50, 50))
        await eventually(lambda: _empty(ledger))
    assert await _sent(kafka) == [str(n) for n in range(1000)]


async def test_a_record_that_kafka_refuses_permanently_is_parked(log, ledger, kafka, touchpoint):
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, *_events(0, 2))
        await outbox.write(session, [outbox.row(Record(TOPIC, b"giant", b"x" * 1_100_000, []))])
        await outbox.write(session, [outbox.row(Record(TOPIC, b"giant", b"{}", [("ce_id", b"after the giant")]))])
        await outbox.publish(session, *_events(2, 1))
    relay = Relay("ledger-svc", kafka, ledger.sessions)
    await relay._producer.start()
    assert await relay.round() == 5
    assert await relay.round() == 0
    await relay._producer.stop()
    assert sorted(await _sent(kafka)) == ["0", "1", "2", "after the giant"]
    [row] = json.loads(await touchpoint("outbox", "list", "--json"))
    assert row["reason"] == "a record may have 1000000 bytes with headers"
    assert "outbox-grows" in await touchpoint("doctor", code=1)


async def test_a_parked_row_can_be_retried_or_discarded(log, ledger, kafka, touchpoint):
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, *_events(0, 2))
    await ledger.query("UPDATE outbox SET parked = 'too large'")
    first, second = [row.id for row in await ledger.query("SELECT id FROM outbox ORDER BY id")]
    assert "1 will be sent again" in await touchpoint("outbox", "retry", str(first), "--reason", "a larger limit")
    assert "1 discarded" in await touchpoint("outbox", "discard", str(second), "--reason", "a test")
    with pytest.raises(NotFoundError, match="none of these rows is parked"):
        await touchpoint("outbox", "discard", str(first), "--reason", "it is not parked any more")
    async with _relays(ledger, kafka, 1):
        await eventually(lambda: _empty(ledger))
    assert await _sent(kafka) == ["0"]
    trail = await ledger.query("SELECT action, reason FROM audit ORDER BY id")
    assert [tuple(line) for line in trail] == [("outbox.retried", "a larger limit"), ("outbox.discarded", "a test")]


async def test_a_rolled_back_event_is_never_sent(log, ledger, kafka):
    try:
        async with transaction(ledger.sessions) as session:
            await outbox.publish(session, *_events(0, 1))
            raise LookupError
    except LookupError:
        pass
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, *_events(1, 1))
    async with _relays(ledger, kafka, 1):
        await eventually(lambda: _empty(ledger))
    assert await _sent(kafka) == ["1"]


def _events(first, count):
    return [escalation_opened(id=str(n)) for n in range(first, first + count)]


class _relays:  # noqa: N801 - reads as a function
    """Relays that run within the block."""

    def __init__(self, ledger, kafka, count):
        self.stop = asyncio.Event()
        self.relays = [Relay("ledger-svc", kafka, ledger.sessions) for _ in range(count)]

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(relay.run(self.stop)) for relay in self.relays]

    async def __aexit__(self, *_):
        self.stop.set()
        await asyncio.gather(*self.tasks)


async def _empty(ledger):
    return not await ledger.query("SELECT id FROM outbox LIMIT 1")


async def _sent(kafka):
    """The ids of all records of the topic; they have the same key, hence one partition."""
    consumer = AIOKafkaConsumer(**kafka.client_options())
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka.topic_prefix + TOPIC, p) for p in range(kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = sum((await consumer.end_offsets(partitions)).values())
        sent = []
        while len(sent) < left:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                sent += [dict(r.headers)["ce_id"].decode() for r in records]
        return sent
    finally:
        await consumer.stop()
