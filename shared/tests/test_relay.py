"""The relay against real Kafka and PostgreSQL."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.db import outbox
from touchpoint.db.engine import transaction
from touchpoint.db.relay import Relay
from touchpoint.kafka.codec import Record
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


async def test_two_relays_at_once_keep_the_order(log, ledger, kafka):
    async with _relays(ledger, kafka, 2):
        for number in range(20):
            async with transaction(ledger.sessions) as session:
                await outbox.publish(session, *_events(number * 50, 50))
        await eventually(lambda: _empty(ledger))
    assert await _sent(kafka) == [str(n) for n in range(1000)]


async def test_a_record_that_cannot_be_sent_holds_up_its_own_key_only(log, ledger, kafka):
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, *_events(0, 2))
        await outbox.write(session, [outbox.row(Record(TOPIC, b"giant", b"x" * 1_100_000, []))])
        await outbox.write(session, [outbox.row(Record(TOPIC, b"giant", b"{}", [("ce_id", b"after the giant")]))])
        await outbox.publish(session, *_events(2, 1))
    relay = Relay("ledger-svc", kafka, ledger.sessions)
    await relay._producer.start()
    assert await relay.round() is None
    left = await ledger.query("SELECT key FROM outbox")
    assert [row.key for row in left] == [b"giant", b"giant"]
    await ledger.query("DELETE FROM outbox WHERE length(value) > 1000000")
    assert await relay.round() == 1
    await relay._producer.stop()
    sent = await _sent(kafka)
    assert [found for found in sent if found != "after the giant"] == ["0", "1", "2"]


async def test_what_was_rolled_back_is_never_sent(log, ledger, kafka):
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
    """The ids of all records of the topic; they all have one key and so one partition."""
    consumer = AIOKafkaConsumer(**kafka.client_options())
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka.topic_prefix + TOPIC, p) for p in range(kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = sum((await consumer.end_offsets(partitions)).values())
        found = []
        while len(found) < left:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [dict(r.headers)["ce_id"].decode() for r in records]
        return found
    finally:
        await consumer.stop()
