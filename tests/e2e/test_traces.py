"""Each event has one trace: from the gateway through Kafka to each database write of every service."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.collector import Collector, Span
from touchpoint.testing.policies import QUICK
from touchpoint.testing.system import System

Path = tuple[str, tuple[str, ...]]
"""A service, and the names of spans from the root down."""


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    started = Collector()
    yield started
    await started.close()


@pytest.fixture(scope="module")
async def system(running, collector) -> AsyncIterator[System]:
    traced = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    async with running(QUICK, apart=True, **traced) as started:
        yield started


@pytest.fixture
async def gateway(system) -> AsyncIterator[httpx.AsyncClient]:
    key = await system.create_key("acme")
    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        yield client


@pytest.fixture
def trace() -> str:
    return uuid4().hex


async def test_feedback_is_one_trace_from_the_gateway_to_each_database_write(gateway, collector, trace):
    answer = await gateway.post("/v1/feedback", json=detractor(), headers={"traceparent": f"00-{trace}-{1:016x}-01"})
    assert answer.status_code == 202
    sent = ("POST /v1/feedback", "send touchpoints.v1")
    taken = (*sent, "process touchpoints.v1")
    await collected(
        collector,
        trace,
        ("gateway", sent),
        ("feedback-svc", (*taken, "store_feedback", "INSERT feedback")),
        ("feedback-svc", (*taken, "store_feedback", "INSERT outbox")),
        ("feedback-svc", (*taken, "keep_timeline", "INSERT timeline")),
        ("feedback-svc", (*taken, "COMMIT")),
        ("feedback-svc", (*sent, "send feedback.v1")),
        ("metrics-svc", (*taken, "count", "INSERT rollups")),
        ("escalation-svc", (*taken, "escalate", "INSERT escalations")),
        ("escalation-svc", (*sent, "send escalations.v1")),
        ("feedback-svc", (*sent, "send escalations.v1", "process escalations.v1", "keep_timeline", "INSERT timeline")),
    )


async def test_a_clock_that_expires_is_in_the_trace_of_its_ticket(gateway, collector, trace):
    ticket = {"customer_id": "c1", "ticket_id": f"ticket-{trace}", "channel": "email", "priority": "urgent"}
    await send(gateway, event("ticket.opened", ticket, traceparent=f"00-{trace}-{1:016x}-01"))
    sent = ("send touchpoints.v1",)
    await collected(
        collector,
        trace,
        ("escalation-svc", (*sent, "process touchpoints.v1", "escalate", "INSERT clocks")),
        ("escalation-svc", (*sent, "wake clock", "UPDATE clocks")),
        ("feedback-svc", (*sent, "send escalations.v1", "process escalations.v1", "keep_timeline", "INSERT timeline")),
    )


async def test_each_event_of_a_batch_begins_a_trace_linked_with_its_request(gateway, collector, trace):
    ids = [str(uuid4()) for _ in range(3)]
    batch = [event("feedback.submitted", detractor(), id=name) for name in ids]
    request = {"traceparent": f"00-{trace}-{1:016x}-01", "Content-Type": "application/cloudevents-batch+json"}
    answer = await gateway.post("/v1/events", json=batch, headers=request)
    assert answer.status_code == 202

    def begun() -> dict[str, Span]:
        sent = [span for span in collector.spans if span.name == "send touchpoints.v1"]
        return {name: span for span in sent if (name := span.attributes["cloudevents.event_id"]) in ids}

    await eventually(lambda: len(begun()) == 3)
    assert all(span.parent == "" and span.links == [trace] for span in begun().values())
    assert len({span.trace for span in begun().values()}) == 3


async def test_a_get_requests_trace_contains_the_services_query_and_no_customer_id(gateway, collector, trace):
    asked = {"traceparent": f"00-{trace}-{1:016x}-01"}
    await gateway.get("/v1/customers/customer-nobody/timeline?type=feedback.submitted", headers=asked)
    route = "GET /v1/customers/{customer_id:path}/timeline"
    await collected(collector, trace, ("feedback-svc", (route, route, "SELECT timeline")))
    assert "customer-nobody" not in str(collector.spans)


async def test_a_trace_that_the_client_does_not_sample_is_not_exported(gateway, collector, trace):
    kept = uuid4().hex
    for each, flag in ((trace, "00"), (kept, "01")):
        answer = await gateway.post(
            "/v1/feedback", json=detractor(), headers={"traceparent": f"00-{each}-{1:016x}-{flag}"}
        )
        assert answer.status_code == 202
    sent = ("POST /v1/feedback", "send touchpoints.v1")
    await collected(collector, kept, ("metrics-svc", (*sent, "process touchpoints.v1", "COMMIT")))
    assert collector.trace(trace) == []


async def test_a_process_works_and_stops_while_its_collector_is_unreachable(system, gateway, collector):
    await collector.close()
    answer = await gateway.post("/v1/feedback", json=detractor())
    path = f"/v1/feedback/{answer.json()['feedback_id']}"

    async def stored() -> bool:
        return (await gateway.get(path)).is_success

    await eventually(stored)
    assert await system.stop_part(("feedback-svc", "consumer")) == 0


def detractor() -> dict[str, Any]:
    score = {"value": 2, "min": 0, "max": 10}
    return {"kind": "nps", "channel": "email", "customer_id": f"customer-{uuid4()}", "score": score}


def event(kind: str, data: dict[str, Any], **attributes: str) -> dict[str, Any]:
    return {"specversion": "1.0", "id": str(uuid4()), "source": "/tests", "type": kind, "data": data, **attributes}


async def send(gateway: httpx.AsyncClient, event: dict[str, Any]) -> None:
    answer = await gateway.post("/v1/events", json=event, headers={"Content-Type": "application/cloudevents+json"})
    assert answer.status_code == 202, answer.text


async def collected(collector: Collector, trace: str, *expected: Path) -> None:
    """Wait until a trace contains these paths."""

    def complete() -> bool:
        seen = paths(collector.trace(trace))
        assert set(expected) <= seen, f"missing: {set(expected) - seen}; seen: {sorted(seen)}"
        return True

    await eventually(complete, 40)


def paths(spans: list[Span]) -> set[Path]:
    """Each span's service, and the names from the root down to the span."""
    by_id = {span.id: span for span in spans}

    def path(span: Span) -> tuple[str, ...]:
        above = by_id.get(span.parent)
        return (*(path(above) if above else ()), span.name)

    return {(span.service, path(span)) for span in spans}
