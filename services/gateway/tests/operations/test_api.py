"""The operators' routes of the gateway: which services they ask, and how they combine several answers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from gateway.door.service import Answer
from gateway.operations import decisions
from touchpoint.http import pagination
from touchpoint.http.errors import ProblemError, response
from touchpoint.http.scopes import OPERATORS
from touchpoint.operators.schemas import Entries
from touchpoint.testing import eventually

FEEDBACK, ESCALATION, METRICS = SERVICES = ("feedback-svc", "escalation-svc", "metrics-svc")
REPLAY = "/v1/ops/replays/0190a5f2-0000-7000-8000-000000000000"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def claims(request):
    token = request.headers["authorization"].removeprefix("Bearer ")
    return jwt.decode(token, options={"verify_signature": False})


def urls(behind):
    return {f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")}


def not_found(_=None):
    return response(ProblemError(404, "not-found", "It is not here."))


async def never(scope, receive, send):
    await asyncio.Event().wait()


@pytest.fixture
async def admin(open_door, behind):
    """A client of a gateway's admin address; `say(service, answer)` sets a service's answer, else an empty list."""
    answers: dict[str, Callable] = {}
    behind.answer = lambda request: answers.get(claims(request)["aud"], lambda _: JSONResponse({"items": []}))(request)
    door = await open_door(
        "ops", OPERATORS, **{f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")}
    )
    door.base_url = "http://admin"
    door.say = lambda service, answer: answers.update(
        {service: answer if callable(answer) else lambda _: JSONResponse(answer)}
    )
    return door


@pytest.fixture
def asked(behind):
    """A function that returns the services that were asked."""
    return lambda: {jwt.decode(headers["authorization"][7:], options={"verify_signature": False})["aud"]
                    for _, _, headers, _ in behind.asked}  # fmt: skip


def entry(minutes, place="a"):
    return {"cursor": pagination.encode(NOON - timedelta(minutes=minutes), place), "minutes": minutes}


@pytest.mark.parametrize(
    ("method", "path", "body", "services"),
    [
        ("GET", "/v1/ops/consumers", None, SERVICES),
        ("GET", "/v1/ops/audit?consumer=metrics-svc", None, [METRICS]),
        ("GET", "/v1/ops/audit?consumer=feedback-svc&consumer=metrics-svc", None, [METRICS]),
        ("GET", "/v1/ops/dead-letters/metrics-svc/touchpoints.v1/3/1042", None, [METRICS]),
        ("POST", "/v1/ops/consumers/escalation-svc/pause", {"reason": "x"}, [ESCALATION]),
        ("POST", "/v1/ops/dead-letters/redrive", {"consumer": METRICS}, [METRICS]),
        ("POST", "/v1/ops/replays", {"consumer": ESCALATION, "from": ["2h"]}, [ESCALATION]),
        ("POST", "/v1/ops/replays", {"from": ["2h"]}, [FEEDBACK]),
        ("POST", "/v1/ops/replays", {"consumer": 7}, [FEEDBACK]),
        ("POST", "/v1/ops/replays", None, [FEEDBACK]),
        ("POST", "/v1/ops/rebuilds", {"consumer": METRICS, "reason": "x"}, [METRICS]),
    ],
)
async def test_only_the_service_of_the_named_consumer_is_asked(admin, behind, asked, method, path, body, services):
    assert (await admin.request(method, path, json=body)).status_code == 200
    assert asked() == set(services)
    assert {raw.decode() for _, raw, _, _ in behind.asked} == {path}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/ops/audit?consumer=nobody", None),
        ("GET", "/v1/ops/dead-letters/nobody/touchpoints.v1/3/1042", None),
        ("POST", "/v1/ops/consumers/nobody/pause", {"reason": "x"}),
        ("POST", "/v1/ops/replays", {"consumer": "nobody"}),
    ],
)
async def test_an_unknown_consumer_is_404_and_the_problem_names_the_known_ones(admin, asked, method, path, body):
    answer = await admin.request(method, path, json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (404, "consumer")
    assert "feedback-svc, escalation-svc, metrics-svc" in answer.json()["errors"][0]["reason"]
    assert asked() == set()


async def test_services_get_the_keys_name_and_scopes_and_the_client_gets_their_location(admin, behind):
    seen = []

    def planned(request):
        seen.append(claims(request))
        return JSONResponse({"id": 1}, 201, {"Location": "/v1/ops/replays/1", "X-Internal": "x"})

    admin.say(FEEDBACK, planned)
    answer = await admin.post("/v1/ops/replays", json={"consumer": FEEDBACK})
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/ops/replays/1")
    assert "x-internal" not in answer.headers
    assert (seen[0]["name"], seen[0]["scopes"]) == ("test", ["ops:read", "ops:replay"])


async def test_a_list_combines_all_services_newest_first_and_has_one_cursor_for_all(admin):
    admin.say(FEEDBACK, {"items": [entry(1), entry(4)], "next_cursor": entry(4)["cursor"]})
    admin.say(METRICS, {"items": [entry(2), entry(3)], "next_cursor": None})
    answer = (await admin.get("/v1/ops/audit?limit=2")).json()
    assert [each["minutes"] for each in answer["items"]] == [1, 2]
    assert answer["next_cursor"] == entry(2)["cursor"]
    answer = (await admin.get("/v1/ops/audit?limit=9")).json()
    assert [each["minutes"] for each in answer["items"]] == [1, 2, 3, 4]
    assert answer["next_cursor"] == entry(4)["cursor"]


async def test_a_list_names_the_services_that_failed_and_has_the_items_of_the_others(admin):
    admin.say(FEEDBACK, {"items": [entry(1)]})
    admin.say(ESCALATION, lambda _: response(ProblemError(503, "database-unavailable", "Away.")))
    admin.say(METRICS, {"nothing": "that is a list"})
    answer = await admin.get("/v1/ops/dead-letters")
    assert (answer.status_code, len(answer.json()["items"])) == (200, 1)
    missing = {each["service"]: each["problem"]["type"].rpartition(":")[2] for each in answer.json()["unanswered"]}
    assert missing == {ESCALATION: "database-unavailable", METRICS: "service-misconfigured"}


async def test_a_list_is_a_problem_when_all_services_fail(admin):
    for service in SERVICES:
        admin.say(service, lambda _: response(ProblemError(503, "database-unavailable", "Away.")))
    answer = await admin.get("/v1/ops/consumers")
    assert (answer.status_code, answer.json()["detail"]) == (503, "Away.")


async def test_a_4xx_of_the_services_is_passed_on(admin):
    for service in SERVICES:
        admin.say(service, lambda _: response(ProblemError(422, "validation-failed", "No.")))
    assert (await admin.get("/v1/ops/dead-letters?state=odd")).status_code == 422


async def test_the_answer_of_the_service_that_knows_a_replay_does_not_wait_for_the_others(admin):
    admin.say(FEEDBACK, not_found)
    admin.say(ESCALATION, lambda _: never)
    admin.say(METRICS, {"state": "paused"})
    async with asyncio.timeout(5):
        answer = await admin.post(f"{REPLAY}/pause", json={"reason": "x"})
    assert (answer.status_code, answer.json()) == (200, {"state": "paused"})


async def test_a_replay_is_404_only_when_all_services_answer_404(admin):
    for service in SERVICES:
        admin.say(service, not_found)
    assert (await admin.get(REPLAY)).status_code == 404
    admin.say(METRICS, lambda _: response(ProblemError(503, "database-unavailable", "Away.")))
    assert (await admin.get(REPLAY)).status_code == 503


async def test_a_409_of_the_service_that_knows_a_replay_prevails_over_404_and_503(admin):
    admin.say(FEEDBACK, not_found)
    admin.say(ESCALATION, lambda _: response(ProblemError(503, "database-unavailable", "Away.")))
    admin.say(METRICS, lambda _: response(ProblemError(409, "conflict", "It is aborted.")))
    assert (await admin.post(f"{REPLAY}/run", json={"reason": "x"})).json()["detail"] == "It is aborted."


async def test_a_command_under_an_idempotency_key_is_carried_out_once(admin, behind):
    async def pause(reason):
        return await admin.post(
            "/v1/ops/consumers/metrics-svc/pause", json={"reason": reason}, headers={"Idempotency-Key": "night-7"}
        )

    first, again, other = await pause("one"), await pause("one"), await pause("two")
    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 422)
    assert len(behind.asked) == 1


async def test_operators_are_answered_while_tenants_queries_hold_all_slots(open_door, behind, issue):
    door = await open_door(queries_at_once=2, **urls(behind))
    behind.answer = lambda request: JSONResponse({"items": []}) if "ops" in request.url.path else never
    others = [await issue(tenant) for tenant in ("acme", "globex")]
    waiting = [
        asyncio.create_task(door.get("/v1/feedback", headers={"Authorization": f"Bearer {key}"})) for key in others
    ]
    await eventually(lambda: len(behind.asked) == 2)
    busy = await door.get("/v1/feedback", headers={"Authorization": f"Bearer {await issue('other')}"})
    assert busy.status_code == 503
    assert (await door.get("http://admin/v1/ops/consumers")).status_code == 200
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


MOMENTS = st.integers(0, 5)


@given(parts=st.lists(st.lists(MOMENTS, max_size=8), min_size=1, max_size=3), limit=st.integers(1, 4))
def test_the_combined_pages_hold_each_item_of_all_services_once_and_in_order(parts, limit):
    logs = [
        sorted([entry(n, f"{service}/{uuid4()}") for n in moments], key=_position, reverse=True)
        for service, moments in enumerate(parts)
    ]
    items, cursor = [], None
    while cursor or not items:
        answers = [_page(log, cursor, limit) for log in logs]
        page = Entries[dict].model_validate_json(decisions.together([*map(str, range(len(logs)))], answers, limit).body)
        items += page.items
        cursor = page.next_cursor
        if not cursor:
            break
    assert items == sorted((each for log in logs for each in log), key=_position, reverse=True)


def _position(each):
    return pagination.read(each["cursor"])


def _page(log, cursor, limit):
    """A service's answer: the page of its list after this cursor."""
    behind = [each for each in log if not cursor or _position(each) < pagination.read(cursor)]
    after = behind[limit - 1]["cursor"] if len(behind) > limit else None
    return Answer(200, {}, Entries(items=behind[:limit], next_cursor=after).model_dump_json().encode())


async def test_an_unknown_path_at_the_admin_address_is_a_problem(admin, asked):
    for path in ("/", "/v1/ops", "/v1/ops/nothing", "/v1/ops/dead-letters/feedback-svc/a%0Ab/3/4", "/v1/feedback"):
        answer = await admin.get(path)
        assert answer.headers["content-type"] in ("application/problem+json", "application/json"), path
    assert asked() == {"feedback-svc"}


async def test_the_operators_document_is_at_the_admin_address_and_needs_no_key(admin):
    served = await admin.get("/v1/ops/openapi.json", headers={"Authorization": ""})
    assert (served.status_code, served.json()["info"]["title"]) == (200, "Touchpoint for operators")
