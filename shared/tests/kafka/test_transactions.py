"""Transactional producers: aborted records are skipped, open transactions are awaited, markers are not records."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from touchpoint.contracts.record import encode
from touchpoint.kafka import consumer as consumer_module
from touchpoint.kafka import log as logs
from touchpoint.kafka.consumer import Consumer
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.verify.run import verify

TOPIC = "touchpoints.v1"


@pytest.fixture
async def transactional(log):
    """A transactional producer."""
    producer = AIOKafkaProducer(**log.settings.client_options(), transactional_id=log.settings.topic_prefix + "shop")
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
def sending(log, transactional):
    """A function that sends events to partition 0 within the producer's transaction."""

    async def send(*ids):
        for event_id in ids:
            record = encode(feedback(id=event_id))
            topic = log.settings.topic_prefix + record.topic
            await transactional.send_and_wait(topic, record.value, record.key, 0, headers=record.headers)

    return send


@asynccontextmanager
async def aborted(producer):
    await producer.begin_transaction()
    yield
    await producer.abort_transaction()


async def _stands(ledger, offset):
    return (await ledger.next()).get(0) == offset


async def test_only_records_of_committed_transactions_are_applied(
    log, ledger, transactional, sending, consuming, kafka, touchpoint
):
    async with aborted(transactional):
        await sending("gone1", "gone2")
    async with transactional.transaction():
        await sending("e0")
    await log.append(feedback(id="e1"))
    async with aborted(transactional):
        await sending("gone3")
    async with consuming():
        await eventually(lambda: _stands(ledger, 8))  # 5 records and 3 markers
    assert await ledger.ids() == ["e0", "e1"]
    report = await verify(ledger.subject, ledger.dsn, kafka)
    assert (report.findings, report.pending, report.outcomes["applied"], report.records) == ([], 0, 2, 2)


async def test_a_transaction_marker_at_the_end_of_the_log_is_not_lag(ledger, transactional, sending, consuming, kafka):
    async with consuming():
        async with transactional.transaction():
            await sending("e0")
        await eventually(lambda: _stands(ledger, 2))
    report = await verify(ledger.subject, ledger.dsn, kafka)
    assert (report.findings, report.pending) == ([], 0)


async def test_an_open_transaction_delays_later_records_and_the_clocks(
    log, ledger, transactional, sending, consuming, kafka, monkeypatch
):
    """Else a clock would fire although the reply that stops it is in Kafka."""
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 1)  # waiting for a transaction does not count as a stall
    monkeypatch.setattr(
        Consumer, "_watch_loop", lambda _: asyncio.Event().wait()
    )  # on a busy machine an iteration is slow
    await log.append(feedback(id="e0"))
    async with consuming() as consumer:
        await eventually(lambda: _read_through_since(ledger, 0))
        await transactional.begin_transaction()
        await sending("open")
        await log.append(feedback(id="behind"))
        behind = await _now(ledger)
        await eventually(lambda: _read_through_since(ledger, 1))  # other partitions continue
        before = consumer._iterated
        await eventually(lambda: consumer._iterated - before > 3)
        assert await ledger.ids() == ["e0"]
        assert not await _read_through(ledger, 0, behind)
        assert (await verify(ledger.subject, ledger.dsn, kafka)).findings == []
        monkeypatch.setattr(
            consumer_module, "STALL_SECONDS", 60
        )  # from here on a slow machine may delay readable records
        await transactional.commit_transaction()
        await eventually(lambda: _read_through(ledger, 0, behind))
    assert await ledger.ids() == ["e0", "open", "behind"]


async def test_doctor_names_an_open_transaction(log, ledger, transactional, sending, touchpoint):
    await transactional.begin_transaction()
    await sending("open")
    await log.append(feedback(id="behind"))
    finding = await _kafka_findings(touchpoint, 1)
    assert finding["text"].startswith(f"{TOPIC}/0: a transaction is open since offset 0")
    assert finding["page"] == "lag-grows"
    await transactional.abort_transaction()
    assert (await _kafka_findings(touchpoint, 0))["page"] is None


async def test_the_readable_log_ends_before_an_open_transaction(log, transactional, sending):
    await log.append(feedback(id="e0"))
    await transactional.begin_transaction()
    await sending("open")
    async with logs.connected(log.settings, [TOPIC]) as reader:
        assert (await reader.ends([TOPIC]))[TOPIC, 0] == 1
    await transactional.commit_transaction()


async def _kafka_findings(touchpoint, code):
    findings = json.loads(await touchpoint("doctor", "--json", code=code))
    return next(each for each in findings if each["where"].startswith("Kafka"))


async def _now(ledger):
    [(now,)] = await ledger.query("SELECT clock_timestamp()")
    return now


async def _read_through(ledger, partition, moment):
    query = "SELECT 1 FROM offsets WHERE topic = :t AND partition = :p AND read_through >= :m"
    return bool(await ledger.query(query, t=TOPIC, p=partition, m=moment))


async def _read_through_since(ledger, partition):
    moment = await _now(ledger)
    await eventually(lambda: _read_through(ledger, partition, moment))
    return True
