"""The metrics of a worker, on real Kafka and PostgreSQL; they also cover consumers that do not run."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from touchpoint.db import outbox
from touchpoint.db.engine import transaction
from touchpoint.process import gauges
from touchpoint.process.gauges import Gauges
from touchpoint.testing import eventually
from touchpoint.testing.factories import escalation_opened, feedback

CONSUMER = "ledger-svc"
TOPIC = "touchpoints.v1"


@pytest.fixture
async def measuring(ledger, kafka, monkeypatch):
    """A context manager in which one worker measures."""
    monkeypatch.setattr(gauges, "LOOK_SECONDS", 0.1)

    @asynccontextmanager
    async def run():
        stop = asyncio.Event()
        task = asyncio.create_task(Gauges(CONSUMER, kafka, ledger.sessions).run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    return run


def value(name, **labels):
    return REGISTRY.get_sample_value(f"touchpoint_{name}", labels)


def lag(partition=0):
    place = {"consumer": CONSUMER, "topic": TOPIC, "partition": str(partition)}
    return value("consumer_lag_records", **place), value("consumer_lag_seconds", **place)


async def test_lag_is_measured_in_records_and_in_the_age_of_the_oldest_record(log, ledger, consuming, measuring):
    async with measuring():
        await log.append(feedback(id="applied"))
        async with consuming():
            await eventually(lambda: lag() == (0, 0), 30)
        await log.append(*(feedback(id=f"waits-{n}") for n in range(3)))
        await eventually(lambda: lag()[0] == 3)
        # The consumer has stopped; the age of its lag grows.
        first = lag()[1]
        await eventually(lambda: lag()[1] > first + 0.5)
        assert lag(1) == (0, 0)
        async with consuming():
            await eventually(lambda: lag() == (0, 0), 30)


async def test_the_lag_in_seconds_is_the_age_of_the_next_record_to_apply(log, ledger, consuming, measuring):
    await log.append(feedback(id="a"))
    async with consuming():
        await eventually(lambda: _applied(ledger, 1), 30)
    await log.append(feedback(id="b"), feedback(id="c"))
    async with measuring():
        await eventually(lambda: lag()[0] == 2)
        before = lag()[1]
        await eventually(lambda: lag()[1] > before + 0.3)
        await ledger.query("UPDATE offsets SET next = next + 2 WHERE topic = :topic AND next > 0", topic=TOPIC)
        await eventually(lambda: lag() == (0, 0))
        await log.append(feedback(id="d"))
        await eventually(lambda: lag()[0] == 1)
        assert lag()[1] < before + 0.3


async def test_dead_letters_outbox_and_tables_are_measured(log, ledger, consuming, measuring, poison):
    before = value("consumer_records_total", consumer=CONSUMER, topic=TOPIC, outcome="dead_lettered") or 0
    poison.add("e1")
    await log.append(*(feedback(id=f"e{n}") for n in range(3)))
    async with measuring(), consuming():
        await eventually(lambda: value("dead_letters_open", consumer=CONSUMER) == 1, 30)
        await eventually(lambda: value("outbox_pending_rows") == 1)  # the dead letter: no relay runs in this test
        await eventually(lambda: value("outbox_oldest_age_seconds") > 0.2)
        async with transaction(ledger.sessions) as session:
            await outbox.publish(session, escalation_opened())
        await eventually(lambda: value("outbox_pending_rows") == 2)
    assert value("consumer_records_total", consumer=CONSUMER, topic=TOPIC, outcome="dead_lettered") == before + 1
    assert value("table_size_bytes", table="inbox") > 0


async def test_the_ages_of_applied_events_are_measured(log, ledger, consuming):
    before = value("consumer_event_age_seconds_count", consumer=CONSUMER) or 0
    await log.append(*(feedback(id=f"e{n}") for n in range(20)))
    async with consuming():
        await eventually(lambda: _applied(ledger, 20), 30)
    assert value("consumer_event_age_seconds_count", consumer=CONSUMER) == before + 20
    assert value("consumer_event_age_seconds_sum", consumer=CONSUMER) > 0


async def test_the_database_is_measured_while_kafka_is_unreachable(ledger, kafka, measuring, monkeypatch):
    monkeypatch.setattr(kafka, "bootstrap_servers", "127.0.0.1:1")
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, escalation_opened())
    async with measuring():
        await eventually(lambda: value("outbox_pending_rows") == 1)


async def test_an_unexpected_error_does_not_stop_the_measurements(ledger, measuring):
    await ledger.query("ALTER TABLE replays RENAME TO gone")  # replays are measured after the outbox
    async with measuring():
        for count in (1, 2):
            async with transaction(ledger.sessions) as session:
                await outbox.publish(session, escalation_opened())
            await eventually(lambda count=count: value("outbox_pending_rows") == count)


async def _applied(ledger, count):
    return len(await ledger.ids()) == count
