"""The main job: events sent to the gateway are stored, routed, timed and counted, and can be queried."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from touchpoint.contracts.base import Meta
from touchpoint.contracts.record import Record, headers
from touchpoint.kafka.producer import Producer
from touchpoint.testing import eventually, factories
from touchpoint.testing.policies import DETRACTORS, condition, policy, policy_file
from touchpoint.testing.system import System

TARGET_SECONDS = 3
POLICIES = policy_file(
    policy("key-account-detractor", 10, all=[*DETRACTORS, condition("customer.tier", "is", "key")]),
    policy("first-response-breached", 20, event="sla.breached", reason="first_response_breached"),
    urgent=TARGET_SECONDS,
)


@pytest.fixture(scope="module")
async def system(running) -> AsyncIterator[System]:
    async with running(POLICIES, apart=True) as started:
        yield started


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture
async def gateway(system, key) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway with a key of the tenant acme."""
    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        yield client


@pytest.fixture
def customer() -> str:
    return f"customer-{uuid4()}"


async def test_feedback_of_a_key_account_is_stored_counted_and_opens_a_case(gateway, customer):
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    when = {"from": hour.isoformat(), "to": (hour + timedelta(hours=2)).isoformat()}
    survey = {"group_by": "segment", **when}
    await _send(gateway, "customer.updated", customer_id=customer, name="Nordwind", tier="key", segment=customer)
    answer = await gateway.post(
        "/v1/feedback",
        json={
            "kind": "nps",
            "channel": "email",
            "customer_id": customer,
            "score": {"value": 3, "min": 0, "max": 10},
            "text": "Third delay this month.",
        },
    )
    assert answer.status_code == 202
    feedback = answer.json()["feedback_id"]

    stored = await eventually(lambda: _found(gateway, f"/v1/feedback/{feedback}"))
    assert stored["text"] == "Third delay this month."
    [case] = await eventually(lambda: _items(gateway, "/v1/escalations", customer_id=customer))
    assert (case["reason"], case["feedback_id"], case["state"]) == ("detractor", feedback, "open")
    counted = await eventually(lambda: _group(gateway, "/v1/metrics/nps", survey, customer))
    assert (counted["n"], counted["detractors"], counted["value"]) == (1, 1, -100)

    acknowledged = await gateway.post(f"/v1/escalations/{case['id']}/acknowledge", json={"by": "Kim"})
    assert acknowledged.json()["state"] == "acknowledged"
    resolved = await gateway.post(f"/v1/escalations/{case['id']}/resolve", json={"resolution": "Refunded."})
    assert resolved.json()["resolution"] == "Refunded."
    types = await eventually(lambda: _timeline(gateway, customer, "escalation.resolved"))
    assert sorted(types) == [
        "customer.updated",
        "escalation.acknowledged",
        "escalation.opened",
        "escalation.resolved",
        "feedback.submitted",
    ]


async def test_an_events_status_names_what_each_consumer_did(gateway, customer):
    taken = await _send(gateway, "usage.reported", customer_id=customer, **_usage())
    statuses = await eventually(lambda: _statuses(gateway, taken["status_url"], "applied"))
    assert statuses == {"feedback-svc": "applied", "escalation-svc": "ignored", "metrics-svc": "ignored"}


async def test_an_event_never_sent_is_not_found_while_others_arrive(gateway, customer):
    """Consumers always lag a little behind a growing log; that must not make an unknown event `pending`."""
    stop = asyncio.Event()

    async def flow() -> None:
        while not stop.is_set():
            await _send(gateway, "feedback.submitted", customer_id=customer, **_nps(10))

    flowing = [asyncio.create_task(flow()) for _ in range(4)]
    answers = [(await gateway.get(f"/v1/events/%2Fcrm/never-{number}")).status_code for number in range(15)]
    stop.set()
    await asyncio.gather(*flowing)
    assert answers == [404] * 15


async def test_another_payload_under_a_used_id_is_a_conflict_and_not_applied(gateway, customer):
    about = {"id": f"twice-{customer}", "kind": "text", "channel": "web", "customer_id": customer}
    first = (await gateway.post("/v1/feedback", json={**about, "text": "first"})).json()
    await eventually(lambda: _found(gateway, f"/v1/feedback/{first['feedback_id']}"))
    await gateway.post("/v1/feedback", json={**about, "text": "second"})

    async def conflicting() -> bool:
        consumers = (await gateway.get(first["status_url"])).json()["consumers"]
        return all(consumer["conflicting"] for consumer in consumers)

    await eventually(conflicting)
    assert (await gateway.get(f"/v1/feedback/{first['feedback_id']}")).json()["text"] == "first"


async def test_an_event_is_pending_while_a_consumer_is_down_and_applied_after_it_is_back(system, gateway, customer):
    await system.kill(("metrics-svc", "consumer"))
    taken = await _send(gateway, "feedback.submitted", customer_id=customer, **_nps(10))
    await eventually(lambda: _statuses(gateway, taken["status_url"], "pending", consumer="metrics-svc"))
    system.start_part(("metrics-svc", "consumer"))
    await eventually(lambda: _statuses(gateway, taken["status_url"], "applied", consumer="metrics-svc"), 40)


async def test_an_unreadable_record_is_dead_lettered_and_its_status_says_so(system, gateway, customer):
    broken = factories.feedback(customer_id=customer, source="/elsewhere")
    await _write(system, broken.partition_key, broken.meta, type(broken), b'{"kind": "nps"}')
    url = f"/v1/events/%2Felsewhere/{broken.meta.id}"
    statuses = await eventually(lambda: _statuses(gateway, url, "dead-lettered"))
    assert set(statuses.values()) == {"dead-lettered"}


async def test_an_event_never_sent_is_not_found(gateway):
    async def unknown() -> bool:
        return (await gateway.get("/v1/events/%2Fnowhere/never-sent")).status_code == 404

    await eventually(unknown)


async def test_a_ticket_with_only_a_bots_reply_breaches_its_clock_once(system, gateway, customer):
    ticket = f"ticket-{customer}"
    about = {"customer_id": customer, "ticket_id": ticket}
    await _send(gateway, "ticket.opened", **about, channel="email", priority="urgent")
    await _send(gateway, "ticket.replied", **about, author="bot", text="We have received it.")
    await system.kill(("escalation-svc", "worker"))
    system.start_part(("escalation-svc", "worker"))
    [case] = await eventually(lambda: _items(gateway, "/v1/escalations", ticket_id=ticket), 40)
    assert case["reason"] == "first_response_breached"
    types = await eventually(lambda: _timeline(gateway, customer, "sla.breached"))
    assert types.count("sla.breached") == 1
    assert types.count("escalation.opened") == 1
    detail = (await gateway.get(f"/v1/escalations/{case['id']}")).json()
    assert detail["clock"]["state"] == "breached"


async def test_a_ticket_an_agent_replied_to_in_time_opens_no_case(gateway, customer):
    about = {"customer_id": customer, "ticket_id": f"ticket-{customer}"}
    await _send(gateway, "ticket.opened", **about, channel="email", priority="urgent")
    await _send(gateway, "ticket.replied", **about, author="agent", text="On it.")
    other = f"ticket-late-{customer}"
    await _send(gateway, "ticket.opened", customer_id=customer, ticket_id=other, channel="email", priority="urgent")
    await eventually(lambda: _items(gateway, "/v1/escalations", ticket_id=other), 40)
    assert await _items(gateway, "/v1/escalations", ticket_id=about["ticket_id"]) == []


async def test_a_backfill_is_counted_and_opens_no_case(gateway, customer):
    past = datetime(2020, 3, 1, 9, 0, tzinfo=UTC)
    hours = {"from": "2020-03-01T00:00:00Z", "to": "2020-03-02T00:00:00Z", "group_by": "segment"}
    about = {"customer_id": customer, "ticket_id": f"ticket-{customer}"}
    await _send(gateway, "customer.updated", past, backfill=True, customer_id=customer, tier="key", segment=customer)
    await _send(gateway, "feedback.submitted", past, backfill=True, customer_id=customer, **_nps(0))
    await _send(gateway, "ticket.opened", past, backfill=True, **about, channel="email", priority="urgent")
    late = past + timedelta(hours=8)
    await _send(gateway, "ticket.replied", late, backfill=True, **about, author="agent", text="Sorry.")
    answered = await eventually(lambda: _group(gateway, "/v1/metrics/first-response", hours, customer))
    assert answered["mean_seconds"] == 8 * 3600
    await eventually(lambda: _timeline(gateway, customer, "sla.breached"))
    assert await _items(gateway, "/v1/escalations", customer_id=customer) == []


async def test_another_tenant_cannot_read_the_feedback(system, gateway, customer):
    sent = (await gateway.post("/v1/feedback", json={"customer_id": customer, "channel": "web", **_nps(9)})).json()
    await eventually(lambda: _found(gateway, f"/v1/feedback/{sent['feedback_id']}"))
    other = {"Authorization": f"Bearer {await system.create_key('globex')}"}
    async with httpx.AsyncClient(base_url=system.url, headers=other) as stranger:
        assert (await stranger.get(f"/v1/feedback/{sent['feedback_id']}")).status_code == 404
        assert await _items(stranger, "/v1/feedback") == []
        assert await _items(stranger, f"/v1/customers/{customer}/timeline") == []
        assert (await stranger.get(sent["status_url"])).status_code == 404


async def _send(
    gateway: httpx.AsyncClient, event_type: str, time: datetime | None = None, *, backfill: bool = False, **data: Any
) -> Any:
    event = {"specversion": "1.0", "id": str(uuid4()), "source": "/tests", "type": event_type, "data": data}
    if time:
        event["time"] = time.isoformat()
    if backfill:
        event["backfill"] = True
    answer = await gateway.post("/v1/events", json=event, headers={"Content-Type": "application/cloudevents+json"})
    assert answer.status_code == 202, answer.text
    return answer.json()


def _nps(value: int) -> dict[str, Any]:
    return {"kind": "nps", "channel": "email", "score": {"value": value, "min": 0, "max": 10}}


def _usage() -> dict[str, Any]:
    return {
        "feature": "exports",
        "quantity": "3",
        "unit": "files",
        "period_start": "2026-11-01T00:00:00Z",
        "period_end": "2026-11-02T00:00:00Z",
    }


async def _found(gateway: httpx.AsyncClient, path: str) -> Any:
    answer = await gateway.get(path)
    return answer.json() if answer.status_code == 200 else None


async def _items(gateway: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await gateway.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def _group(gateway: httpx.AsyncClient, path: str, query: dict[str, str], segment: str) -> Any:
    items = await _items(gateway, path, **query)
    return next((item for item in items if item["group"]["segment"] == segment and item["n"]), None)


async def _timeline(gateway: httpx.AsyncClient, customer: str, until: str) -> list[str]:
    types = [entry["type"] for entry in await _items(gateway, f"/v1/customers/{customer}/timeline")]
    return types if until in types else []


async def _statuses(gateway: httpx.AsyncClient, url: str, wanted: str, consumer: str = "feedback-svc") -> Any:
    answer = await gateway.get(url)
    if answer.status_code != 200:
        return None
    statuses = {each["consumer"]: each["status"] for each in answer.json()["consumers"]}
    done = wanted == statuses[consumer] and (wanted == "pending" or "pending" not in statuses.values())
    return statuses if done else None


async def _write(system: System, key: str, meta: Meta, kind: Any, value: bytes) -> None:
    """Write a record directly to the topic."""
    producer = Producer(system.kafka, "tests")
    await producer.start()
    await producer.send(Record("touchpoints.v1", key.encode(), value, headers(meta, kind)))
    await producer.stop()
