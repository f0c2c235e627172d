"""An operator's work over HTTP: dead letters are redriven, lost events replayed, and the audit trail names the key."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from touchpoint.contracts.record import Record, headers
from touchpoint.kafka.producer import Producer
from touchpoint.testing import eventually, factories

SERVICE = "feedback-svc"


@pytest.fixture(scope="module")
async def ops(system) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway's admin address, with a key of operators."""
    headers = {"Authorization": f"Bearer {await system.create_key('operations')}"}
    async with httpx.AsyncClient(base_url=f"{system.admin_url}/v1/ops", headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
async def query(system):
    """Runs queries on the service's database as its owner."""
    connection = await asyncpg.connect(system.dsn(SERVICE))
    yield connection.fetch
    await connection.close()


async def body_of(answer: httpx.Response):
    assert answer.is_success, answer.text
    return answer.json()


async def ended(ops: httpx.AsyncClient, replay_id: str):
    async def over():
        replay = await body_of(await ops.get(f"/replays/{replay_id}"))
        return replay["state"] in ("done", "failed", "aborted") and replay

    return await eventually(over, 60)


async def test_the_consumers_of_all_services_are_listed(ops):
    async def all_of_them():
        answer = await body_of(await ops.get("/consumers"))
        return sorted(item["consumer"] for item in answer["items"]) == ["escalation-svc", SERVICE, "metrics-svc"]

    await eventually(all_of_them, 60)


async def test_deleted_events_are_planned_and_replayed(system, ops, query):
    async with httpx.AsyncClient(
        base_url=system.url, headers={"Authorization": f"Bearer {await system.create_key('acme')}"}
    ) as door:
        for number in range(20):
            feedback = {"id": f"f{number}", "kind": "text", "channel": "web", "customer_id": "C-42", "text": "Fine."}
            assert (await door.post("/v1/feedback", json=feedback)).status_code == 202
        await eventually(system.is_quiet, 60)
        gone = [row["id"] for row in await query("SELECT id FROM feedback WHERE customer_id = 'C-42' LIMIT 7")]
        for table, column in (("inbox", "event_id"), ("feedback", "id"), ("timeline", "id")):
            await query(f"DELETE FROM {table} WHERE {column} = ANY($1)", gone)

        plan = await body_of(await ops.post("/replays", json={"consumer": SERVICE, "from": ["1h"], "customer": "C-42"}))
        assert plan["summary"]["missing"] == 7
        await body_of(await ops.post(f"/replays/{plan['id']}/run", json={"reason": "lost afternoon"}))
        done = await ended(ops, plan["id"])

        assert (done["state"], done["matched"], done["applied"]) == ("done", 20, 7)
        items = (await door.get("/v1/feedback?customer_id=C-42")).json()["items"]
        assert len(items) == 20


async def test_a_dead_letter_is_found_shown_and_redriven(system, ops, query):
    await query("ALTER TABLE feedback ADD CONSTRAINT no_zz CHECK (language IS DISTINCT FROM 'zz')")
    event = factories.feedback(id="poison", customer_id="C-7", language="zz")
    producer = Producer(system.kafka, "tests")
    await producer.start()
    await producer.send(Record("touchpoints.v1", b"acme:C-7", event.data(), headers(event.meta, type(event))))
    await producer.stop()

    async def failed():
        return (await body_of(await ops.get("/dead-letters", params={"customer": "C-7"})))["items"]

    [letter] = await eventually(failed, 60)
    place = f"{letter['consumer']}/{letter['topic']}/{letter['partition']}/{letter['offset']}"
    shown = await body_of(await ops.get(f"/dead-letters/{place}"))
    assert shown["event"]["headers"]["ce_id"] == "poison"
    await query("ALTER TABLE feedback DROP CONSTRAINT no_zz")

    asked = {"consumer": SERVICE, "fingerprint": letter["fingerprint"]}
    assert (await body_of(await ops.post("/dead-letters/redrive", json=asked)))["matching"] == 1
    told_to = asked | {"execute": True, "reason": "the constraint is gone"}
    started = await body_of(await ops.post("/dead-letters/redrive", json=told_to))
    done = await ended(ops, started["replay"]["id"])

    assert (done["state"], done["applied"]) == ("done", 1)
    assert await query("SELECT 1 FROM feedback WHERE customer_id = 'C-7'")


async def test_the_trail_names_the_key_and_not_its_secret(ops):
    await body_of(await ops.post(f"/consumers/{SERVICE}/pause", json={"reason": "a test"}))
    await body_of(await ops.post(f"/consumers/{SERVICE}/resume", json={"reason": "a test"}))
    token = ops.headers["Authorization"].removeprefix("Bearer ")
    _, prefix, secret = token.split("_")
    trail = await ops.get("/audit")
    by_key = [line["action"] for line in trail.json()["items"] if line["who"] == f"key:{prefix} (tests)"]
    assert by_key[:2] == ["consumer.resume", "consumer.pause"]
    assert {"replay.plan", "replay.run"} <= set(by_key)
    assert secret not in trail.text


async def test_operators_routes_are_closed_at_the_public_address_and_at_the_services(system, ops):
    async with httpx.AsyncClient(headers=ops.headers) as client:
        assert (await client.get(f"{system.url}/v1/ops/consumers")).status_code == 404
        assert (await client.get(f"{system.service_url(SERVICE)}/v1/ops/consumers")).status_code == 401
