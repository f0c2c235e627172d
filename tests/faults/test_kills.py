"""Accepted means exactly once, everywhere, whatever is killed meanwhile.

`FAULT_EVENTS` and `FAULT_KILLS` make it larger (see `make faults`); without them it is the smoke of every test run.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import READS, System

from .load import Load
from .recount import Expected, read_log, recount

EVENTS = int(os.environ.get("FAULT_EVENTS", "6000"))
KILLS = int(os.environ.get("FAULT_KILLS", "1"))
VICTIMS = [("gateway", "api"), *((service, "consumer") for service in READS)]
SECONDS_A_KILL = 5
"""On the average; a part takes two or three seconds to be back."""

pytestmark = pytest.mark.faults


@pytest.fixture
async def system(running) -> AsyncIterator[System]:
    async with running() as started:
        yield started


async def test_every_accepted_event_has_its_effects_once_though_consumers_and_the_gateway_are_killed(system):
    load = Load(
        system.url, await system.create_key("acme"), EVENTS, rate=EVENTS / (len(VICTIMS) * KILLS * SECONDS_A_KILL)
    )
    loading = asyncio.create_task(load.run())
    killed = await _kill_along(system, load)
    load.enough.set()
    await loading
    started = time.monotonic()
    await eventually(system.is_quiet, 600)
    expected = recount(await read_log(system.kafka, "touchpoints.v1"))
    print(
        f"\n{len(load.accepted)} events accepted ({load.retries} batches sent again, {expected.records} records), "
        f"{killed} kills; all applied {time.monotonic() - started:.1f} s after the last was accepted"
    )
    assert load.accepted <= expected.ids
    await _check_feedback(system, expected)
    await _check_metrics(system, expected)
    await _check_escalations(system, expected)


async def _kill_along(system, load: Load) -> int:
    """Kill each victim so many times, spread over the load, and start it again."""
    kills = VICTIMS * KILLS
    random.Random(5).shuffle(kills)
    for number, part in enumerate(kills, start=1):
        due = EVENTS * number // (len(kills) + 2)
        await eventually(lambda due=due: len(load.accepted) >= due, 600)
        await eventually(lambda: load.in_flight, 60)
        await system.kill(part)
        system.start_part(part)
        await system.ready([part])
    return len(kills)


async def _query(system, service: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(system.dsn(service))
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def _check_feedback(system, expected: Expected) -> None:
    stored = await _query(system, "feedback-svc", "SELECT event_id FROM feedback")
    assert len(stored) == expected.by_type["feedback.submitted"]
    rows = await _query(
        system, "feedback-svc", "SELECT type, count(*) AS n, count(DISTINCT id) AS ids FROM timeline GROUP BY 1"
    )
    timeline = {row["type"]: row["n"] for row in rows}
    assert all(row["n"] == row["ids"] for row in rows)
    assert {kind: n for kind, n in timeline.items() if kind in expected.by_type} == dict(expected.by_type)
    assert timeline["escalation.opened"] == sum(expected.cases.values())
    recorded = [headers["ce_id"] for part in await read_log(system.kafka, "feedback.v1") for headers, _ in part]
    assert len(set(recorded)) == expected.by_type["feedback.submitted"]


async def _check_metrics(system, expected: Expected) -> None:
    rows = await _query(
        system,
        "metrics-svc",
        "SELECT metric, hour, scale, channel, segment, tier, CASE WHEN scale = '' THEN -1 ELSE bucket END AS bucket, "
        "sum(n)::bigint AS n, sum(total)::bigint AS total FROM rollups GROUP BY 1, 2, 3, 4, 5, 6, 7",
    )
    found = {tuple(row.values())[:7]: (row["n"], row["total"]) for row in rows}
    assert found == {key: (n, expected.totals[key]) for key, n in expected.rollups.items()}


async def _check_escalations(system, expected: Expected) -> None:
    rows = await _query(system, "escalation-svc", "SELECT escalation_id, reason FROM escalations")
    assert Counter(row["reason"] for row in rows) == expected.cases
    log = [(h, d) for part in await read_log(system.kafka, "escalations.v1") for h, d in part]
    opened = {data["escalation_id"] for headers, data in log if headers["ce_type"] == "escalation.opened"}
    assert opened == {str(row["escalation_id"]) for row in rows}
