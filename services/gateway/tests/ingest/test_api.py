"""POST /v1/events on real Kafka: the answers, and the records in the log."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote
from uuid import UUID

import pytest
from aiokafka.admin import NewPartitions
from cloudevents.core.bindings import http as sdk
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as old_to_binary
from cloudevents.v1.conversion import to_structured as old_to_structured
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from prometheus_client import REGISTRY as METRICS

from gateway.ingest.api import MAX_BATCH_BYTES
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.record import decode
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.http.scopes import Scope
from touchpoint.kafka import admin
from touchpoint.kafka.producer import NotAcknowledgedError, Producer
from touchpoint.kafka.requirements import deviations
from touchpoint.testing import eventually

FEEDBACK = {"kind": "nps", "channel": "email", "customer_id": "C-1", "score": {"value": 3, "min": 0, "max": 10}}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def event(number=1, data=FEEDBACK, **over):
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "/crm/eu",
        "type": "feedback.submitted",
        "data": data,
    } | over


async def post(door, payload, media_type="application/cloudevents+json", **headers):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return await door.post("/v1/events", content=body, headers={"Content-Type": media_type, **headers})


async def post_batch(door, items):
    return await post(door, items, "application/cloudevents-batch+json")


def problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["type"]) == (status, f"urn:touchpoint:problem:{code}")
    return body


async def test_a_structured_event_is_in_the_log_once_202_is_answered(door, log):
    before = datetime.now(UTC)
    raw = json.dumps(event(), indent=1).encode()

    response = await post(door, raw, traceparent=TRACE)

    assert response.status_code == 202
    assert response.json() == {"id": "e-1", "source": "/crm/eu", "status_url": "/v1/events/%2Fcrm%2Feu/e-1"}
    [record] = await log()
    assert record.key == b"acme:C-1"
    assert record.value in raw
    headers = dict(record.headers)
    assert headers["ce_type"] == b"feedback.submitted"
    assert headers["ce_tenant"] == b"acme"
    assert headers["ce_dataschema"] == b"urn:touchpoint:feedback.submitted:1"
    assert headers["traceparent"] == TRACE.encode()
    assert timedelta(0) <= datetime.fromisoformat(headers["ce_recordedtime"].decode()) - before < timedelta(minutes=1)
    assert decode(record, REGISTRY).customer_id == "C-1"


async def test_the_status_url_contains_any_source_and_id_percent_encoded(door):
    response = await post(door, event(id="a/b?c d%", source="urn:x:Ä/y"))

    source, event_id = response.json()["status_url"].removeprefix("/v1/events/").split("/")
    assert (unquote(source), unquote(event_id)) == ("urn:x:Ä/y", "a/b?c d%")


@pytest.mark.parametrize("make", [CloudEvent, OldCloudEvent], ids=["sdk-2", "sdk-1"])
@pytest.mark.parametrize("way", ["structured", "binary", "base64"])
async def test_events_from_the_official_sdk_are_accepted(door, log, make, way):
    attributes = {"id": "sdk-1", "source": "/sdk/Ä", "type": "feedback.submitted", "backfill": True, "orderref": "Ö 1"}
    if make is OldCloudEvent:  # it does not encode headers, so its attributes can be ASCII text only
        attributes |= {"source": "/sdk", "orderref": "1", "backfill": "true"}
    data = json.dumps(FEEDBACK).encode() if way == "base64" else dict(FEEDBACK)
    if make is CloudEvent:
        message = sdk.to_binary_event(make(attributes, data)) if way == "binary" else None
        message = message or sdk.to_structured_event(make(attributes, data))
        headers, body = message.headers, message.body
    else:
        headers, body = (old_to_binary if way == "binary" else old_to_structured)(make(attributes, data))
    assert (way == "base64") == (b"data_base64" in body)

    response = await door.post("/v1/events", content=body, headers=headers)

    assert response.status_code == 202, response.text
    [record] = await log()
    event = decode(record, REGISTRY)
    assert event.model_dump(mode="json", exclude_none=True) == FEEDBACK
    assert (event.meta.id, event.meta.source, event.meta.backfill) == ("sdk-1", attributes["source"], True)
    assert dict(record.headers)["ce_orderref"].decode() == attributes["orderref"]
    assert abs(event.meta.time - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_batch_of_sdk_events_is_accepted(door, log):
    made = [sdk.to_structured_event(CloudEvent({"source": "/sdk", "type": "feedback.submitted"}, FEEDBACK)).body] * 3

    response = await post(door, b"[" + b",".join(made) + b"]", "application/cloudevents-batch+json; charset=UTF-8")

    assert response.status_code == 202
    assert len(await log()) == 3


async def test_the_tenant_comes_from_the_api_key_and_never_from_the_body(open_door, log):
    problem(await post(await open_door(tenant="globex"), event(tenant="acme")), 422, "validation-failed")
    assert (await post(await open_door(tenant="globex"), event())).status_code == 202

    [record] = await log()
    assert record.key == b"globex:C-1"
    assert dict(record.headers)["ce_tenant"] == b"globex"


async def test_invalid_items_of_a_batch_are_refused_and_the_others_accepted(door, log):
    bad = [
        event(1, data=FEEDBACK | {"score": {"value": 11, "min": 0, "max": 10}}),
        "no object",
        event(3, type="ticket.invented"),
        event(4, data={"kind": "text", "channel": "web", "text": "x" * 300_000}),
        {"id": 5},
    ]
    items = [event(0), *bad, event(6)]

    response = await post_batch(door, items)

    assert response.status_code == 207
    body = response.json()
    assert body["accepted"] == [{"index": i, "id": f"e-{i}", "source": "/crm/eu"} for i in (0, 6)]
    assert [(item["index"], item["id"]) for item in body["refused"]] == [
        (1, "e-1"), (2, None), (3, "e-3"), (4, "e-4"), (5, None),
    ]  # fmt: skip
    problems = [item["problem"] for item in body["refused"]]
    assert [p["status"] for p in problems] == [422, 422, 422, 413, 422]
    assert problems[0]["errors"] == [{"field": "data.score.value", "reason": "score.value 11 is off its scale 0–10"}]
    assert len(await log()) == 2


async def test_a_batch_without_a_valid_item_is_422_and_names_each_reason(door, log):
    body = problem(await post_batch(door, [event(id=""), 7]), 422, "batch-refused")
    assert body["accepted"] == []
    assert [item["index"] for item in body["refused"]] == [0, 1]
    assert await log() == []


async def test_an_empty_batch_is_accepted(door):
    response = await post_batch(door, [])
    assert (response.status_code, response.json()) == (202, {"accepted": [], "refused": []})


async def test_a_large_batch_keeps_each_customers_order_and_repeated_ids(door, log):
    items = [event(n % 900, FEEDBACK | {"customer_id": f"C-{n % 7}", "text": str(n)}) for n in range(5000)]

    response = await post_batch(door, items)

    assert response.status_code == 202
    assert [item["index"] for item in response.json()["accepted"]] == list(range(5000))
    records = await log()
    assert len(records) == 5000
    for customer in range(7):
        texts = [int(json.loads(r.value)["text"]) for r in records if r.key == b"acme:C-%d" % customer]
        assert texts == sorted(texts)


async def test_a_413_names_the_limit_in_numbers(door, log):
    event_limit = problem(await post(door, event(data={"text": "x" * 262_144})), 413, "event-too-large")
    assert "262144 bytes" in event_limit["detail"]

    too_many = problem(await post_batch(door, [0] * 5001), 413, "batch-too-large")
    assert "5,000 events and 8 MiB" in too_many["detail"]
    problem(await post_batch(door, ["x" * MAX_BATCH_BYTES]), 413, "batch-too-large")
    assert await log() == []


async def test_an_event_of_exactly_the_maximum_size_is_accepted(door, log):
    data = FEEDBACK | {"text": "😀" * 40_000}
    raw = json.dumps(event(data=data), ensure_ascii=False).encode()
    raw = raw[:-1] + b" " * (262_144 - len(raw)) + b"}"

    assert (await post(door, raw)).status_code == 202
    [record] = await log()
    assert json.loads(record.value) == data


async def test_a_body_of_unknown_length_is_read_no_further_than_the_limit(door):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 100 * 65_536:
            sent += 65_536
            yield b" " * 65_536

    response = await door.post(
        "/v1/events", content=endless(), headers={"Content-Type": "application/cloudevents+json"}
    )

    problem(response, 413, "event-too-large")
    assert sent < 10 * 65_536


@pytest.mark.parametrize(
    ("payload", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed-json"),
        (b'{"data":' * 20_000, {}, 400, "malformed-json"),
        (b"{}", {"Content-Type": "application/json"}, 415, "unsupported-media-type"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unsupported-content-encoding"),
        (b"{}", {}, 422, "validation-failed"),
    ],
)
async def test_each_kind_of_unreadable_request_has_its_own_problem(door, payload, headers, status, code):
    headers = {"Content-Type": "application/cloudevents+json"} | headers
    problem(await door.post("/v1/events", content=payload, headers=headers), status, code)


async def test_sending_events_needs_its_scope(open_door, log):
    door = await open_door(scopes=set(Scope) - {Scope.EVENTS_WRITE})
    response = await post(door, event())
    problem(response, 403, "missing-scope")
    assert 'scope="events:write"' in response.headers["www-authenticate"]
    assert await log() == []


async def test_other_methods_are_405(door):
    answer = await door.put("/v1/events")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert (await door.put("/v1/feedback")).headers["allow"] == "GET, HEAD, POST"


async def test_with_kafka_unreachable_events_are_503_with_retry_after_at_once(open_door, kafka, monkeypatch):
    monkeypatch.setattr(Producer.start, "__defaults__", (0.1,))
    door = await open_door(kafka=kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}))

    async with asyncio.timeout(2):
        single, batch = await post(door, event()), await post_batch(door, [event(1), event(id="")])

    assert "e-1" not in problem(single, 503, "not-acknowledged")["detail"]
    assert single.headers["retry-after"]
    body = problem(batch, 503, "batch-refused")
    assert batch.headers["retry-after"]
    assert [item["problem"]["status"] for item in body["refused"]] == [503, 422]


async def test_a_batch_item_that_kafka_did_not_acknowledge_has_its_own_503(door, log, monkeypatch):
    send_all = Producer.send_all

    async def all_but_one(self, records, timeout_seconds):
        outcomes = await send_all(self, [records[0], records[2]], timeout_seconds)
        return [outcomes[0], NotAcknowledgedError("Kafka did not acknowledge in time"), outcomes[1]]

    monkeypatch.setattr(Producer, "send_all", all_but_one)
    response = await post_batch(door, [event(1), event(2), event(3)])

    assert response.status_code == 207
    assert [item["id"] for item in response.json()["accepted"]] == ["e-1", "e-3"]
    [refused] = response.json()["refused"]
    assert (refused["id"], refused["problem"]["status"]) == ("e-2", 503)
    assert "same id" in refused["problem"]["detail"]


async def test_accepted_and_refused_events_are_counted_by_metrics(door):
    def value(name, **labels):
        return METRICS.get_sample_value(f"touchpoint_{name}", labels) or 0

    route = {"method": "POST", "route": "/v1/events", "status": "207"}
    accepted = value("gateway_events_accepted_total", mode="batch")
    refused = value("gateway_events_refused_total", reason="validation-failed")
    timed = value("http_request_duration_seconds_count", **route)

    await post_batch(door, [event(1), event(2), event(id="")])

    assert value("gateway_events_accepted_total", mode="batch") - accepted == 2
    assert value("gateway_events_refused_total", reason="validation-failed") - refused == 1
    assert value("http_request_duration_seconds_count", **route) - timed == 1
    assert value("producer_in_flight_bytes", producer="gateway") == 0


async def test_plain_feedback_gets_an_id_and_is_an_event_like_any_other(door, log):
    response = await door.post("/v1/feedback", json=FEEDBACK)

    assert response.status_code == 202
    body = response.json()
    [record] = await log()
    event = decode(record, REGISTRY)
    assert (event.meta.id, event.meta.source) == (body["id"], "/touchpoint/gateway/feedback")
    assert UUID(body["feedback_id"]) == event.meta.identity
    assert body["status_url"] == f"/v1/events/%2Ftouchpoint%2Fgateway%2Ffeedback/{body['id']}"
    assert event.model_dump(mode="json", exclude_none=True) == FEEDBACK


async def test_plain_feedback_may_bring_its_own_id_and_time(door, log):
    body = FEEDBACK | {"id": "form-1", "time": "2026-11-01T08:00:00+01:00"}

    first, second = await door.post("/v1/feedback", json=body), await door.post("/v1/feedback", json=body)

    assert first.json() == second.json()
    assert first.json()["id"] == "form-1"
    first, second = await log()
    assert first.value == second.value
    assert dict(first.headers)["ce_time"] == b"2026-11-01T07:00:00Z"


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({"kind": "nps", "channel": "email"}, 422, {"score"}),
        (FEEDBACK | {"id": "", "time": "now"}, 422, {"id", "time"}),
        (FEEDBACK | {"id": {}}, 422, {"id"}),
        (FEEDBACK | {"source": "/x"}, 422, {"source"}),
        ([], 422, {"body"}),
    ],
)
async def test_problems_of_plain_feedback_name_the_fields_of_its_body(door, body, status, fields):
    refusal = problem(await door.post("/v1/feedback", json=body), status, "validation-failed")
    assert {error["field"] for error in refusal["errors"]} == fields


async def test_a_form_sent_as_plain_feedback_is_415_and_the_problem_asks_for_json(door):
    refusal = problem(await door.post("/v1/feedback", data={"kind": "nps"}), 415, "unsupported-media-type")
    assert "application/json" in refusal["detail"]


async def test_an_unexpected_exception_is_answered_by_a_500_problem(door, monkeypatch):
    async def fail(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Producer, "send_all", fail)
    with pytest.raises(ZeroDivisionError):  # raised on to the server, which logs it
        await post(door, event(1))
    door._transport.raise_app_exceptions = False
    problem(await post(door, event(1)), 500, "internal-error")


async def test_nothing_is_written_to_a_topic_with_a_wrong_number_of_partitions(open_door, kafka, log):
    """A gateway that starts then would write a customer's events to another partition than the earlier ones."""
    name = kafka.topic_prefix + TOUCHPOINTS
    async with admin.connected(kafka) as client:
        await client.create_partitions({name: NewPartitions(6)})

    async def seen():
        async with admin.connected(kafka) as client:
            return await deviations(client, kafka, [name])

    await eventually(seen)
    door = await open_door()
    finding = f"topic {name} has partitions=6, not 3: see docs/runbooks/topic-changed.md"
    refused = await post(door, event())
    assert problem(refused, 503, "not-acknowledged")["detail"].startswith(f"Not sent: {finding}")
    ready = await door.get("http://admin/readyz")
    assert (ready.status_code, ready.json()["checks"]["topics"]) == (503, finding)
    assert await log() == []
