"""escalation-svc's database is restored from a backup: what people and the timer decided since comes back from Kafka.

`FAULT_FOLD_KILLS`: how often its process is killed while it starts on the restored database.
"""

import asyncio
import os
import random
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

import escalation_svc.verify
from tests.faults.backup import back_up, restore
from touchpoint.testing import eventually
from touchpoint.testing.policies import DETRACTORS, policy, policy_file
from touchpoint.verify.run import verify

KILLS = int(os.environ.get("FAULT_FOLD_KILLS", "2"))
SERVICE, PART = "escalation-svc", ("escalation-svc", "all")
CUSTOMERS = 40
POLICIES = policy_file(
    policy("detractor", all=DETRACTORS),
    policy("late", 2, event="sla.breached", reason="first_response_breached"),
    normal=1,
)

DECIDED = {
    "escalations": "SELECT * FROM escalations",
    "clocks": "SELECT tenant_id, clock_id, ticket_id, customer_id, state, priority, target_seconds, due_at, warned, "
    "fulfilled_at, closed_at, history, fired FROM clocks",
    "customers": "SELECT * FROM customers",
}

pytestmark = [pytest.mark.faults, pytest.mark.servers]


@pytest.fixture(scope="module")
async def system(running):
    async with running(POLICIES) as started:
        yield started


@pytest.fixture(autouse=True)
def same_policies(system, monkeypatch):
    """Let `verify` judge by the policies of the running service."""
    monkeypatch.setenv("POLICIES_PATH", system.extra["POLICIES_PATH"])


@pytest.fixture
async def gateway(system):
    headers = {"Authorization": f"Bearer {await system.create_key('acme')}"}
    async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=30) as client:
        yield client


async def test_decisions_made_since_the_backup_come_back_though_the_service_is_killed_while_it_reads_them(
    system, gateway, tmp_path
):
    await _send(gateway, "before")
    first = await _cases(gateway, 2 * CUSTOMERS)
    await _act(gateway, first[: CUSTOMERS // 2])
    backup = await back_up(system.dsn(SERVICE), tmp_path / "escalation.dump")

    await _act(gateway, first[CUSTOMERS // 4 :])
    await _send(gateway, "after")
    await _act(gateway, (await _cases(gateway, 4 * CUSTOMERS))[: CUSTOMERS // 2])
    await eventually(partial(_all_fired, system), 60)
    await eventually(system.is_quiet, 60)
    undisturbed = await _decided(system)

    await system.kill(PART)
    await restore(system, SERVICE, backup)
    assert await _decided(system) != undisturbed
    chance = random.Random(7)
    for _ in range(KILLS):
        system.start_part(PART)
        await asyncio.sleep(chance.uniform(1.0, 3.0))  # the moment of the kill
        await system.kill(PART)
    system.start_part(PART)
    await system.ready([PART])
    assert (await _decided(system))["escalations"] == undisturbed["escalations"], "ready before it has its decisions"
    await eventually(system.is_quiet, 60)

    assert await _decided(system) == undisturbed
    report = await verify(escalation_svc.verify.subject(), system.dsn(SERVICE), system.kafka)
    assert report.findings == []
    states = [case["state"] for case in await _cases(gateway, 4 * CUSTOMERS)]
    print(f"\n{ {state: states.count(state) for state in sorted(set(states))} } after {KILLS} kills, as before")


async def _send(gateway: httpx.AsyncClient, prefix: str) -> None:
    """A detractor and an unanswered ticket of each customer: two cases each."""
    event = {"specversion": "1.0", "source": "/tests"}
    feedback = {"kind": "nps", "channel": "web", "score": {"value": 1, "min": 0, "max": 10}}
    events = [
        event | {"id": f"{prefix}-{kind}-{n}", "type": kind, "data": {"customer_id": f"c{n}", **data}}
        for n in range(CUSTOMERS)
        for kind, data in (
            ("feedback.submitted", feedback),
            ("ticket.opened", {"ticket_id": f"{prefix}-{n}", "channel": "web"}),
        )
    ]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = await gateway.post("/v1/events", json=events, headers=headers)
    assert answer.status_code == 202, answer.text


async def _cases(gateway: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """All cases, once there are so many."""

    async def listed() -> list[dict[str, Any]] | None:
        answer = await gateway.get("/v1/escalations", params={"limit": 200})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items if len(items) == count else None

    cases: list[dict[str, Any]] = await eventually(listed, 60)
    return sorted(cases, key=lambda case: case["id"])


async def _act(gateway: httpx.AsyncClient, cases: list[dict[str, Any]]) -> None:
    """Acknowledge the cases, and resolve every second of them."""
    for number, case in enumerate(cases):
        for action in ("acknowledge", "resolve")[: 1 + number % 2]:
            answer = await gateway.post(f"/v1/escalations/{case['id']}/{action}", json={"by": f"person {number}"})
            assert answer.status_code in (200, 409), answer.text


async def _all_fired(system) -> bool:
    async with _database(system) as connection:
        return not await connection.fetchval("SELECT count(*) FROM clocks WHERE state = 'active'")


async def _decided(system) -> dict[str, list[str]]:
    async with _database(system) as connection:
        return {name: sorted(map(str, await connection.fetch(query))) for name, query in DECIDED.items()}


def _database(system):
    return asyncpg.create_pool(system.dsn(SERVICE), min_size=1, max_size=1)
