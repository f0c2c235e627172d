"""The service's processes, killed and restarted, on real Kafka and PostgreSQL."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import text

from escalation_svc.config import NAME, SHIPPED
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import encode
from touchpoint.contracts.topics import ESCALATIONS
from touchpoint.db.engine import Sessions, transaction
from touchpoint.kafka import admin
from touchpoint.kafka.handlers import Handlers
from touchpoint.local.process import Process, Program
from touchpoint.testing import apply, eventually
from touchpoint.testing import factories as make

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
Start = Callable[..., Process]

SECONDS = 3
"""Target of an urgent ticket in these tests, in seconds."""

REACH = (
    "INSERT INTO offsets (consumer, topic, partition, next, cluster_id, read_through) VALUES (:c, :t, 0, 0, '', now())"
)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def start(dsn: str, kafka: KafkaSettings, handlers: Handlers, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a role of the service in a process of its own; the fixture stops all of them."""
    await admin.provision(kafka, {NAME: handlers.topics})
    policies = yaml.safe_load(SHIPPED.read_text())
    policies["first_response"]["target_seconds"]["urgent"] = SECONDS
    (tmp_path / "policies.yaml").write_text(yaml.safe_dump(policies))
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "KAFKA_PARTITIONS": str(kafka.partitions),
        "INTERNAL_TOKEN_SECRETS": json.dumps(["x" * 32]),
        "POLICIES_PATH": str(tmp_path / "policies.yaml"),
        "PORT": "0",
        "ADMIN_PORT": "0",
    }
    started: list[Process] = []

    def run(role: str) -> Process:
        log = tmp_path / f"{len(started)}-{role}.log"
        started.append(Program(role, [sys.executable, "-m", "escalation_svc", role], environment, log).start())
        return started[-1]

    yield run
    await asyncio.gather(*(process.stop() for process in started))


async def kill(process: Process) -> None:
    process.handle.send_signal(signal.SIGKILL)
    await process.ended()


async def send(kafka: KafkaSettings, *events: Event) -> None:
    producer = AIOKafkaProducer(**kafka.client_options())
    await producer.start()
    for record in map(encode, events):
        await producer.send_and_wait(
            kafka.topic_prefix + record.topic, record.value, record.key, headers=record.headers
        )
    await producer.stop()


async def appended(kafka: KafkaSettings, kind: str) -> dict[str, list[datetime]]:
    """When each ticket's events of a type were appended to escalations.v1."""
    consumer = AIOKafkaConsumer(
        kafka.topic_prefix + ESCALATIONS, **kafka.client_options(), auto_offset_reset="earliest"
    )
    await consumer.start()
    times: dict[str, list[datetime]] = {}
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    if dict(record.headers)["ce_type"] == kind.encode():
                        moment = datetime.fromtimestamp(record.timestamp / 1000, UTC)
                        times.setdefault(json.loads(record.value)["ticket_id"], []).append(moment)
    finally:
        await consumer.stop()
    return times


async def test_each_clock_fires_once_even_if_a_worker_is_killed_and_two_run_at_once(
    start: Start, handlers: Handlers, sessions: Sessions, rows: Rows, kafka: KafkaSettings
) -> None:
    past = now() - timedelta(days=1)
    tickets = [
        make.ticket_opened(ticket_id=f"t-{n}", time=past, topic="touchpoints.v1", partition=0) for n in range(3000)
    ]
    await apply(handlers, sessions, tickets)
    first = start("worker")
    async with transaction(sessions) as session:
        await session.execute(text(REACH), {"c": NAME, "t": "touchpoints.v1"})
    await eventually(lambda: rows("clocks WHERE state = 'breached' LIMIT 1"))
    await kill(first)
    assert await rows("clocks WHERE state = 'active' LIMIT 1"), (
        "the worker must be killed before it has fired all clocks"
    )
    start("worker")
    start("worker")

    async def done() -> bool:
        return not await rows("clocks WHERE state = 'active'") and not await rows("outbox")

    await eventually(done, 60)
    assert Counter(clock["version"] for clock in await rows("clocks")) == {2: 3000}
    assert len(await rows("escalations")) == 3000
    assert set(await appended(kafka, "sla.breached")) == {ticket.ticket_id for ticket in tickets}


async def test_a_clock_fires_within_three_seconds_of_its_due_time(
    start: Start, rows: Rows, kafka: KafkaSettings
) -> None:
    start("all")
    await send(kafka, make.customer_updated())
    await eventually(lambda: rows("customers"), 30)
    opened = make.ticket_opened(priority="urgent", time=now())
    await send(kafka, opened)
    times = await eventually(lambda: appended(kafka, "sla.breached"), 30)
    (moment,) = times["ticket-1"]
    due = opened.meta.time + timedelta(seconds=SECONDS)
    assert timedelta(0) < moment - due < timedelta(seconds=3)


async def test_a_reply_in_the_log_prevents_the_breach_though_no_consumer_runs_when_it_is_due(
    start: Start, rows: Rows, kafka: KafkaSettings
) -> None:
    consumer = start("consumer")
    start("worker")
    await send(kafka, make.customer_updated())
    await eventually(
        lambda: rows("customers"), 30
    )  # the consumer runs: it can read the ticket and stop before the due time
    opened = make.ticket_opened(priority="urgent", time=now() + timedelta(seconds=5))
    due = opened.meta.time + timedelta(seconds=SECONDS)
    await send(kafka, opened)
    await eventually(lambda: rows("clocks"))
    await consumer.stop()
    await send(kafka, make.ticket_replied(time=due))
    await eventually(lambda: now() > due + timedelta(seconds=2), 30)
    assert [clock["state"] for clock in await rows("clocks")] == ["active"], "the worker must wait for the consumer"
    start("consumer")
    (clock,) = await eventually(lambda: rows("clocks WHERE state <> 'active'"), 30)
    assert clock["state"] == "achieved"
    assert await rows("escalations WHERE reason = 'first_response_breached'") == []


async def test_with_an_invalid_policy_file_the_process_exits_with_a_message_of_one_line(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "policies.yaml").write_text("policies: 3")
    process = start("api")
    assert await asyncio.to_thread(process.handle.wait, 30) == 1
    output = (tmp_path / "0-api.log").read_text().strip()
    assert output.startswith(f"policy file {tmp_path / 'policies.yaml'} is not valid: first_response: is required;")
    assert "\n" not in output
