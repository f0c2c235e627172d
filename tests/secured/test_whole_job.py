"""The main job and operators' work on servers where each process has only the rights that it needs."""

from collections.abc import AsyncIterator

import httpx
import pytest

from touchpoint.contracts.record import Record, headers
from touchpoint.kafka.producer import Producer
from touchpoint.testing import eventually, factories

pytestmark = pytest.mark.servers

JSON = {"Content-Type": "application/cloudevents+json"}
EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
ALL = ("feedback-svc", "escalation-svc", "metrics-svc")


@pytest.fixture(scope="module")
async def door(system) -> AsyncIterator[httpx.AsyncClient]:
    authorized = {"Authorization": f"Bearer {await system.create_key('acme')}"}
    async with httpx.AsyncClient(base_url=system.url, headers=authorized, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
async def ops(system) -> AsyncIterator[httpx.AsyncClient]:
    authorized = {"Authorization": f"Bearer {await system.create_key('operations')}"}
    async with httpx.AsyncClient(base_url=f"{system.admin_url}/v1/ops", headers=authorized, timeout=60) as client:
        yield client


async def body_of(answer: httpx.Response):
    assert answer.is_success, answer.text
    return answer.json()


async def test_feedback_is_stored_counted_and_opens_a_case(door):
    known = {"id": "1", "source": "/crm", "type": "customer.updated", "specversion": "1.0"}
    await body_of(
        await door.post("/v1/events", json=known | {"data": {"customer_id": "C-1", "tier": "key"}}, headers=JSON)
    )
    about = {"customer_id": "C-1", "kind": "nps", "channel": "web", "score": {"value": 1, "min": 0, "max": 10}}
    taken = await body_of(await door.post("/v1/feedback", json=about))

    async def read_by_all():
        consumers = (await body_of(await door.get(taken["status_url"])))["consumers"]
        return {item["consumer"] for item in consumers if item["status"] == "applied"} == set(ALL)

    async def told_of_the_case():
        entries = (await body_of(await door.get("/v1/customers/C-1/timeline")))["items"]
        return "escalation.opened" in [entry["type"] for entry in entries]

    await eventually(read_by_all, 60)
    await eventually(told_of_the_case, 60)
    assert (await body_of(await door.get("/v1/metrics/nps", params=EVER)))["items"]


async def test_a_dead_letter_is_written_shown_and_redriven_and_a_window_planned(system, ops):
    await system.secured.execute(
        "ALTER TABLE feedback ADD CONSTRAINT no_zz CHECK (language IS DISTINCT FROM 'zz')",
        database=system.databases["feedback-svc"],
    )
    event = factories.feedback(id="poison", customer_id="C-7", language="zz")
    producer = Producer(system.kafka, "tests")
    await producer.start()
    await producer.send(Record("touchpoints.v1", b"acme:C-7", event.data(), headers(event.meta, type(event))))
    await producer.stop()

    async def failed():
        return (await body_of(await ops.get("/dead-letters", params={"customer": "C-7"})))["items"]

    [letter] = await eventually(failed, 60)
    place = f"{letter['consumer']}/{letter['topic']}/{letter['partition']}/{letter['offset']}"
    assert (await body_of(await ops.get(f"/dead-letters/{place}")))["event"]["headers"]["ce_id"] == "poison"
    await eventually(system.is_quiet, 60)  # the copy is in Kafka, too
    await system.secured.execute(
        "ALTER TABLE feedback DROP CONSTRAINT no_zz", database=system.databases["feedback-svc"]
    )
    asked = {"consumer": "feedback-svc", "fingerprint": letter["fingerprint"], "execute": True, "reason": "mended"}
    redrive = await body_of(await ops.post("/dead-letters/redrive", json=asked))

    async def over():
        replay = await body_of(await ops.get(f"/replays/{redrive['replay']['id']}"))
        return replay["state"] == "done" and replay

    assert (await eventually(over, 60))["applied"] == 1
    for consumer in ALL:
        plan = await body_of(await ops.post("/replays", json={"consumer": consumer, "from": ["1h"]}))
        assert plan["summary"]["missing"] == 0
