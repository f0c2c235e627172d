"""A replay or rebuild whose worker is killed by SIGKILL repeatedly has the same result as an undisturbed one."""

import os
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from touchpoint.contracts.record import encode
from touchpoint.db import replays
from touchpoint.db.engine import transaction_on
from touchpoint.db.replays import Replay
from touchpoint.replay.plan import plan_repair, rebuild
from touchpoint.replay.selection import Bound, Selection, Window
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.testing.servers import Servers
from touchpoint.testing.system import System

KILLS = int(os.environ.get("FAULT_REPLAY_KILLS", "2"))
EVENTS_A_KILL = 1000
RATE = 500
"""Events per second: slow enough to kill the worker meanwhile."""
SERVICE = "feedback-svc"
WORKER, CONSUMER = (SERVICE, "worker"), (SERVICE, "consumer")
CHECKSUM = """
SELECT (SELECT md5(string_agg(f::text, ';' ORDER BY id)) FROM feedback f),
       (SELECT md5(string_agg(t::text, ';' ORDER BY id)) FROM timeline t)
"""

pytestmark = [pytest.mark.faults, pytest.mark.servers]


@pytest.fixture
async def system(servers: Servers, tmp_path) -> AsyncIterator[System]:
    """A system with only feedback-svc's consumer and worker."""
    made = System(servers, tmp_path)
    try:
        await made.prepare()
        for part in (CONSUMER, WORKER):
            made.start_part(part)
        await made.ready([CONSUMER, WORKER])
        yield made
    finally:
        await made.stop()


async def test_a_replay_fills_each_gap_once_although_its_worker_is_killed(system):
    events = EVENTS_A_KILL * (KILLS + 1)
    await _append(system, events)
    await eventually(lambda: _count(system, events), 120)
    before = await _query(system, CHECKSUM)
    lost = await _lose(system, "id::text < '8'")
    replay = await _start(system)
    killed = await _kill_along(system, replay)
    done = await _now(system, replay)
    print(f"\n{killed} kills; {done.applied} of {done.matched} events applied, {done.already_applied} were there")
    assert (done.state, done.matched, done.applied, done.failed) == ("done", events, lost, 0)
    assert killed >= KILLS
    assert await _query(system, CHECKSUM) == before


async def test_a_rebuild_has_the_same_result_although_its_worker_is_killed(system):
    events = EVENTS_A_KILL * (KILLS + 1)
    await _append(system, events)
    await eventually(lambda: _count(system, events), 120)
    before = await _query(system, CHECKSUM)
    await _query(system, "UPDATE feedback SET text = 'wrong' WHERE id::text < '8'")
    await _query(system, "DELETE FROM timeline WHERE id::text > 'c'")
    async with transaction_on(system.dsn(SERVICE), "tests") as session:
        replay = await rebuild(session, system.kafka, SERVICE, "tests", "wrong rows", rate=RATE, swap=True)
    killed = await _kill_along(system, replay)
    done = await _now(system, replay)
    print(
        f"\n{killed} kills; {done.applied} of {done.matched} events applied anew, held: {done.summary['held_seconds']}"
    )
    assert (done.state, done.matched, done.applied, done.failed) == ("done", events, events, 0)
    assert killed >= KILLS
    assert await _query(system, CHECKSUM) == before
    assert await _query(system, "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'rebuild%'") == []


async def _append(system, count: int) -> None:
    producer = AIOKafkaProducer(**system.kafka.client_options(), enable_idempotence=True)
    async with producer:
        for number in range(count):
            record = encode(feedback(id=f"e{number}", customer_id=f"c{number % 97}"))
            await producer.send(
                system.kafka.topic_prefix + record.topic, record.value, record.key, headers=record.headers
            )


async def _lose(system, where: str) -> int:
    """Delete the rows of these events as if they had never been applied; returns their number."""
    gone = await _query(system, f"SELECT id FROM feedback WHERE {where}")
    for table, column in (("inbox", "event_id"), ("feedback", "id"), ("timeline", "id")):
        await _query(system, f"DELETE FROM {table} WHERE {column} = ANY($1)", [row["id"] for row in gone])
    return len(gone)


async def _start(system) -> Replay:
    places = {("touchpoints.v1", partition): 0 for partition in range(system.partitions)}
    async with transaction_on(system.dsn(SERVICE), "tests") as session:
        plan = await plan_repair(session, system.kafka, SERVICE, Window(Bound(places=places)), Selection(), who="tests")
        return await replays.change(session, str(plan.id), "run", "tests", "gaps", rate=RATE, max_errors=0)


async def _kill_along(system, replay: Replay) -> int:
    """Kill the worker at a random point in each thousand events and start another; returns the number of kills."""
    chance = random.Random(5)
    for number in range(KILLS):
        place = number * EVENTS_A_KILL + chance.randrange(EVENTS_A_KILL)
        await eventually(lambda place=place: _beyond(system, replay, place), 60)
        if (await _now(system, replay)).state != "running":
            return number
        await system.kill(WORKER)
        system.start_part(WORKER)
    await eventually(lambda: _beyond(system, replay, replay.length), 120)
    return KILLS


async def _beyond(system, replay: Replay, passed: int) -> bool:
    now = await _now(system, replay)
    return now.passed > passed or now.state != "running"


async def _now(system, replay: Replay) -> Replay:
    async with transaction_on(system.dsn(SERVICE), "tests") as session:
        return await replays.get(session, str(replay.id))


async def _count(system, count: int) -> bool:
    [row] = await _query(system, "SELECT count(*) AS n FROM feedback")
    return bool(row["n"] == count)


async def _query(system, sql: str, *values: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(system.dsn(SERVICE))
    try:
        return await connection.fetch(sql, *values)
    finally:
        await connection.close()
