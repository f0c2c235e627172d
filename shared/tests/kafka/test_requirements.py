"""Required topic settings: deviations are detected at the start and while a process runs, and some stop work."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import NewPartitions
from prometheus_client import REGISTRY

from touchpoint.base.settings import KafkaSettings
from touchpoint.db import outbox
from touchpoint.db.engine import transaction
from touchpoint.kafka import admin, requirements, watch
from touchpoint.kafka.consumer import Consumer
from touchpoint.kafka.relay import Relay
from touchpoint.kafka.requirements import deviations, topic_resource
from touchpoint.kafka.watch import TopicWatch
from touchpoint.operators.doctor import command as doctor
from touchpoint.process.recurring import Recurring
from touchpoint.testing import eventually
from touchpoint.testing.factories import escalation_opened, feedback

TOPIC = "touchpoints.v1"

# Setting, altered value, whether work stops, expected value.
TABLE = [
    ("partitions", "4", True, "3"),
    ("cleanup.policy", "compact", True, "delete"),
    ("message.timestamp.type", "CreateTime", True, "LogAppendTime"),
    ("max.message.bytes", "500000", True, "1048576"),
    ("max.message.bytes", "5000000", False, "1048576"),
    ("retention.ms", "604800000", False, "-1"),
    ("retention.bytes", "1000000000", False, "-1"),
]


async def alter(kafka, setting, value, topic=TOPIC):
    """Alter a topic as kafka-topics.sh and kafka-configs.sh do, and wait until the change is visible."""
    name = kafka.topic_prefix + topic
    async with admin.connected(kafka) as client:
        if setting == "partitions":
            await client.create_partitions({name: NewPartitions(int(value))})
        else:
            await client.alter_configs([topic_resource(name, requirements.configs(kafka) | {setting: value})])
    await eventually(lambda: seen(kafka, setting, topic))


async def seen(kafka, setting, topic=TOPIC):
    return setting in {deviation.setting for deviation in await deviating(kafka, topic)}


async def deviating(kafka, topic=TOPIC):
    async with admin.connected(kafka) as client:
        return await deviations(client, kafka, [kafka.topic_prefix + topic])


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.2)


@asynccontextmanager
async def watching(kafka, *topics):
    watched, stop = TopicWatch(kafka, topics or [TOPIC]), asyncio.Event()
    task = asyncio.create_task(Recurring("watch topics", 1, watched.look).run(stop))
    try:
        yield watched
    finally:
        stop.set()
        await task


def reported(kafka, setting, stops):
    labels = {"topic": kafka.topic_prefix + TOPIC, "setting": setting, "stops": stops}
    return REGISTRY.get_sample_value("touchpoint_topic_deviations", labels)


@pytest.mark.parametrize(("setting", "value", "stops", "expected"), TABLE)
async def test_each_deviation_is_detected_while_a_process_runs(kafka, often, setting, value, stops, expected):
    name = kafka.topic_prefix + TOPIC
    async with watching(kafka) as watched:
        assert "have not been checked" in watched.stops
        await eventually(lambda: watched.stops is None)
        await alter(kafka, setting, value)
        await eventually(lambda: reported(kafka, setting, "yes" if stops else "no"))
        [deviation] = await deviating(kafka)
        assert str(deviation).startswith(f"topic {name} has {setting}={value}, not {expected}: ")
        assert watched.stops == (str(deviation) if stops else None)
        if setting != "partitions":
            assert deviation.mend.endswith(f"--entity-name {name} --add-config {setting}={expected}")
            async with admin.connected(kafka) as client:
                await client.alter_configs([topic_resource(name, requirements.configs(kafka))])
            await eventually(lambda: reported(kafka, setting, "yes" if stops else "no") is None)
            assert watched.stops is None


async def test_fewer_replicas_than_configured_are_reported_without_stopping_work(kafka):
    settings = kafka.model_copy(update={"replication_factor": 3, "min_insync_replicas": 2})
    assert {(deviation.setting, deviation.stops) for deviation in await deviating(settings)} == {
        ("replication factor", False),
        ("min.insync.replicas", False),
    }


async def test_a_missing_topic_stops_work(kafka):
    [deviation] = await deviating(kafka, "nobody.v1")
    assert (deviation.setting, deviation.stops) == ("existence", True)


async def test_a_consumer_halts_when_a_topic_it_reads_is_altered(log, ledger, kafka, often, touchpoint):
    stop = asyncio.Event()
    async with watching(kafka) as watched:
        consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions, watch=watched)
        running = asyncio.create_task(consumer.run(stop))
        await log.append(feedback(id="before"))
        await eventually(ledger.ids)
        await alter(kafka, "partitions", "6")
        halted = await eventually(lambda: in_state(ledger, "halted"))
        assert f"topic {kafka.topic_prefix}touchpoints.v1 has partitions=6, not 3" in halted.reason
        await log.append(feedback(id="after"))
        await touchpoint("consumer", "resume", "ledger-svc", "--reason", "try")
        await eventually(lambda: halts_again(ledger))
        stop.set()
        await running
    assert await ledger.ids() == ["before"]


async def in_state(ledger, state):
    now = await ledger.state()
    return now if now.state == state else None


async def halts_again(ledger):
    now = await ledger.state()
    return now.state == "halted" and "partitions=6" in now.reason


async def test_a_relay_sends_nothing_to_an_altered_topic(log, ledger, kafka, often):
    await alter(kafka, "partitions", "5", "escalations.v1")
    async with transaction(ledger.sessions) as session:
        await outbox.publish(session, escalation_opened())
    stop = asyncio.Event()
    async with watching(kafka, "escalations.v1") as watched:
        relay = Relay("ledger-svc", kafka, ledger.sessions, watched)
        await relay._producer.start()
        await eventually(lambda: watched.looked)
        assert await relay.round() is None
        await relay._producer.stop()
        stop.set()
    assert len(await ledger.query("SELECT 1 FROM outbox")) == 1


async def test_while_kafka_is_unreachable_the_last_result_is_used(kafka):
    watched = TopicWatch(kafka, [TOPIC])
    assert await watched.look() == watch.LOOK_SECONDS
    watched._settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    assert await watched.look() == watch.RETRY_SECONDS
    assert watched.stops is None


async def test_doctor_names_the_topic_the_setting_and_the_runbook_page(log, ledger, kafka, touchpoint):
    await alter(kafka, "cleanup.policy", "compact")
    [finding] = [each for each in await doctor.examine(ledger.dsn) if each.page == "topic-changed"]
    assert finding.text.startswith(f"topic {kafka.topic_prefix}touchpoints.v1 has cleanup.policy=compact, not delete: ")
