"""GET /v1/events/{source}/{id}: an event's status in each consumer; 404 only if it was certainly never accepted."""

import asyncio

import msgspec
import pytest
from starlette.responses import JSONResponse

from gateway.statuses.api import name_in
from gateway.statuses.decisions import have_read, judge
from gateway.statuses.schemas import EventStatus
from touchpoint.contracts.base import identity
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.http.errors import ProblemError
from touchpoint.http.scopes import Scope
from touchpoint.http.status import MAX_EVENTS, ConsumerAnswer

NAMES = ("feedback-svc", "escalation-svc", "metrics-svc")
FEEDBACK = {"kind": "nps", "channel": "email", "customer_id": "C-1", "score": {"value": 3, "min": 0, "max": 10}}


EVENT = identity("acme", "/crm/eu", "e-1")


def answer(consumer="feedback-svc", status=None, handles=("feedback.submitted",), positions=None, event=EVENT, **over):
    positions = {TOUCHPOINTS: positions if positions is not None else {0: 5, 1: 5, 2: 5}}
    known_from = over.pop("known_from", {})
    kind = "feedback.submitted" if status in ("applied", "dead-lettered") else None
    events = {event: {"status": status, "type": kind, "conflicting": False} | over} if status else {}
    return ConsumerAnswer(
        consumer=consumer, handles=list(handles), positions=positions, known_from=known_from, events=events
    )


def all_by(behind):
    """Settings by which all services have this one's URL."""
    return {f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")}


def answering(*answers):
    """The services give these answers one after another, and then repeat the last one."""
    left = list(answers)
    return lambda _: JSONResponse((left.pop(0) if len(left) > 1 else left[0]).model_dump(mode="json"))


def statuses(*answers):
    return [(status.consumer, status.status.value) for status in judge(NAMES, answers, EVENT)]


def test_each_consumer_has_its_own_status():
    assert statuses(answer(status="applied"), answer("escalation-svc"), None) == [
        ("feedback-svc", "applied"),
        ("escalation-svc", "pending"),
        ("metrics-svc", "unknown"),
    ]
    assert statuses(answer(status="dead-lettered"), answer("escalation-svc", "conflict"), None)[:2] == [
        ("feedback-svc", "dead-lettered"),
        ("escalation-svc", "conflict"),
    ]


def test_the_status_is_ignored_in_a_consumer_that_does_not_handle_the_type_once_it_is_known():
    other = answer("escalation-svc", handles=["ticket.opened"])
    assert statuses(answer(status="applied"), other, answer("metrics-svc"))[1:] == [
        ("escalation-svc", "ignored"),
        ("metrics-svc", "pending"),
    ]


def test_an_event_that_no_consumer_has_is_unknown_in_all():
    asked = statuses(answer(), answer("escalation-svc", handles=["ticket.opened"]), answer("metrics-svc"))
    assert {status for _, status in asked} == {"unknown"}


@pytest.mark.parametrize(
    ("offset", "known_from", "expected"), [(4, 0, "missing"), (5, 0, "pending"), (4, 5, "pending")]
)
def test_an_event_is_missing_in_a_consumer_that_has_read_past_its_offset_without_it(offset, known_from, expected):
    known = answer(status="applied", place=(TOUCHPOINTS, 1, offset))
    other = answer("escalation-svc", known_from={TOUCHPOINTS: {1: known_from}})
    assert statuses(known, other, None)[1] == ("escalation-svc", expected)


def test_a_conflicting_second_payload_is_shown_beside_the_applied_first_one():
    [status] = judge(NAMES[:1], [answer(status="applied", conflicting=True)], EVENT)
    assert (status.status, status.conflicting) == ("applied", True)


@pytest.mark.parametrize(
    ("over", "ends", "certain"),
    [
        ({}, {0: 5, 1: 5, 2: 0}, True),
        ({"positions": {0: 5, 1: 5}}, {0: 5, 1: 5, 2: 0}, True),
        ({}, {0: 6, 1: 5, 2: 5}, False),
        ({"positions": {0: 5}}, {0: 5, 1: 1, 2: 0}, False),
        ({"positions": {}}, {0: 1, 1: 0, 2: 0}, False),
    ],
)
def test_the_log_counts_as_read_only_if_all_consumers_have_read_it_to_the_end(over, ends, certain):
    assert have_read([answer(), answer(**over), answer()], ends) is certain


def test_without_an_answer_of_every_service_the_log_does_not_count_as_read():
    assert not have_read([answer(), None, answer()], {0: 0})


@pytest.mark.parametrize(
    ("raw_path", "expected"),
    [
        (b"/v1/events/%2Fcrm%2Feu/4711", ("/crm/eu", "4711")),
        (b"/v1/events//crm/eu/4711", ("/crm/eu", "4711")),
        (b"/v1/events/urn:x:y/a%2Fb%20%25", ("urn:x:y", "a/b %")),
        (b"/v1/events/https%3A%2F%2Fa.example%2F%C3%84/1", ("https://a.example/Ä", "1")),
    ],
)
def test_source_and_id_are_read_from_the_raw_path(raw_path, expected):
    assert name_in(raw_path) == expected


@pytest.mark.parametrize("raw_path", [b"/v1/events/x", b"/v1/events/x/", b"/v1/events//x", b"/v1/events/%ff/1"])
def test_a_path_without_source_and_id_is_404(raw_path):
    with pytest.raises(ProblemError, match="percent-encoded") as caught:
        name_in(raw_path)
    assert caught.value.problem.status == 404


async def test_every_service_is_asked_for_the_event_of_the_callers_tenant(open_door, behind):
    door = await open_door(tenant="globex", **all_by(behind))
    asked_for = identity("globex", "/crm/eu", "e-1")
    behind.answer = answering(answer(status="applied", event=asked_for))

    response = await door.get("/v1/events/%2Fcrm%2Feu/e-1")

    assert response.status_code == 200
    status = EventStatus.model_validate(response.json())
    assert (status.source, status.id, len(status.consumers)) == ("/crm/eu", "e-1", 3)
    expected = f"/internal/events?id={asked_for}".encode()
    assert [path for _, path, _, _ in behind.asked] == [expected] * 3


async def test_an_event_never_sent_is_404_also_while_the_log_grows(open_door, behind):
    """While events arrive, the consumers always lag: the gateway asks until they reach the end it read at first."""
    door = await open_door(**all_by(behind))
    await door.post("/v1/feedback", json=FEEDBACK)
    read = answer(positions=dict.fromkeys(range(12), 1))
    behind.answer = answering(*[answer(positions={})] * 9, read)
    unknown = await door.get("/v1/events/%2Fcrm/never-sent")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:touchpoint:problem:event-unknown")


async def test_an_event_just_accepted_is_not_404_however_far_the_consumers_lag(open_door, behind, monkeypatch):
    monkeypatch.setattr("gateway.statuses.service.WAIT_SECONDS", 0.1)
    door = await open_door(**all_by(behind))
    url = (await door.post("/v1/feedback", json=FEEDBACK)).json()["status_url"]
    behind.answer = answering(answer(positions={}))
    response = await door.get(url)
    assert [consumer["status"] for consumer in response.json()["consumers"]] == ["unknown"] * 3


async def test_a_list_of_statuses_has_the_order_of_the_request(open_door, behind):
    door = await open_door(**all_by(behind))
    behind.answer = answering(answer(status="applied"))
    names = [{"source": "/crm/eu", "id": "e-1"}, {"source": ".", "id": "never/sent?"}]
    response = await door.post("/v1/events/statuses", json={"events": names})
    assert response.status_code == 200
    items = response.json()["items"]
    assert [{"source": item["source"], "id": item["id"]} for item in items] == names
    assert [consumer["status"] for consumer in items[0]["consumers"]] == ["applied"] * 3
    assert items[1]["consumers"] == []


@pytest.mark.parametrize(
    ("body", "status", "wrong"),
    [
        (b"{", 400, None),
        (b"[]", 422, "body"),
        (b"{}", 422, "events"),
        (b'{"events": []}', 422, "events"),
        (
            msgspec.json.encode({"events": [{"source": "/a", "id": str(n)} for n in range(MAX_EVENTS + 1)]}),
            422,
            "events",
        ),
        (b'{"events": [{"source": "/a", "id": "1"}, {"source": "/a"}]}', 422, "events.1.id"),
        (b'{"events": [{"source": "/a", "id": "1", "tenant": "x"}]}', 422, "events.0.tenant"),
    ],
)
async def test_an_invalid_list_is_refused_and_the_problem_names_the_field(open_door, body, status, wrong):
    door = await open_door()
    answered = await door.post("/v1/events/statuses", content=body)
    assert answered.status_code == status
    assert [error["field"] for error in answered.json().get("errors", [])] == ([wrong] if wrong else [])


async def test_with_all_services_unreachable_every_status_is_unknown_and_nothing_404(open_door):
    door = await open_door(**{f"{n}_url": "http://127.0.0.1:1" for n in ("feedback", "escalation", "metrics")})
    response = await door.get("/v1/events/%2Fcrm/e-1")
    assert response.status_code == 200
    assert {consumer["status"] for consumer in response.json()["consumers"]} == {"unknown"}


async def test_with_kafka_unreachable_nothing_is_404(open_door, behind, kafka, monkeypatch):
    nowhere = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    monkeypatch.setattr("touchpoint.kafka.producer.Producer.start.__defaults__", (0.1,))
    door = await open_door(kafka=nowhere, **all_by(behind))
    behind.answer = answering(answer(positions={}))
    async with asyncio.timeout(10):
        assert (await door.get("/v1/events/%2Fcrm/e-1")).status_code == 200


async def test_reading_a_status_needs_its_scope(open_door):
    door = await open_door(scopes={Scope.EVENTS_WRITE})
    assert (await door.get("/v1/events/x/1")).status_code == 403
    asked = {"events": [{"source": "x", "id": "1"}]}
    assert (await door.post("/v1/events/statuses", json=asked)).status_code == 403
