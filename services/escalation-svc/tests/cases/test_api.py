import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest

from escalation_svc.clocks.decisions import clock_id, ticket_cause
from touchpoint.db.engine import Sessions
from touchpoint.kafka.handlers import Handlers
from touchpoint.testing import apply
from touchpoint.testing import factories as make

Client = Callable[..., httpx.AsyncClient]
Published = Callable[[], Awaitable[list[dict[str, Any]]]]

CASE = uuid5(ticket_cause("acme", "ticket-1"), "urgent-ticket")


TimePasses = Callable[[], Awaitable[None]]


def at(hours: float) -> datetime:
    return make.NOON + timedelta(hours=hours)


def urgent(ticket_id: str = "ticket-1", **over: Any) -> Any:
    return make.ticket_opened(ticket_id=ticket_id, priority="urgent", **over)


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, action: str, body: dict[str, Any] | None = None, case: UUID = CASE) -> Any:
    answer = await client.post(f"/v1/escalations/{case}/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def problem(request: Awaitable[httpx.Response], status: int) -> dict[str, Any]:
    answer = await request
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def case(handlers: Handlers, sessions: Sessions) -> None:
    """An open case of acme: `CASE`."""
    await apply(handlers, sessions, [urgent()])


@pytest.mark.usefixtures("case")
async def test_the_answer_for_a_case_includes_the_clock_of_its_ticket(client: Client) -> None:
    assert await get(client(), f"/v1/escalations/{CASE}") == {
        "id": str(CASE), "case_version": 1, "state": "open", "reason": "urgent_ticket", "policy": "urgent-ticket",
        "priority": "urgent", "customer_id": "customer-1", "feedback_id": None, "ticket_id": "ticket-1",
        "opened_at": "2026-11-20T12:00:00Z", "recorded_at": "2026-11-20T12:00:00Z", "acknowledged_at": None,
        "acknowledged_by": None, "resolved_at": None, "resolved_by": None, "resolution": None,
        "clock": {
            "id": str(clock_id("acme", "ticket-1")), "state": "active", "priority": "urgent", "target_seconds": 900,
            "started_at": "2026-11-20T12:00:00Z", "due_at": "2026-11-20T12:15:00Z", "warned": False,
            "fulfilled_at": None,
        },
    }  # fmt: skip


async def test_a_case_about_feedback_has_no_clock(handlers: Handlers, sessions: Sessions, client: Client) -> None:
    event = make.feedback(score=1)
    await apply(handlers, sessions, [make.customer_updated(tier="key"), event])
    (case,) = (await get(client(), "/v1/escalations"))["items"]
    assert case["feedback_id"] == str(event.meta.identity)
    assert (await get(client(), f"/v1/escalations/{case['id']}"))["clock"] is None


async def test_the_list_is_newest_first_in_pages(handlers: Handlers, sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [urgent(f"t-{n}", time=at(n // 2)) for n in range(5)])
    first = await get(client(), "/v1/escalations", limit=3)
    second = await get(client(), "/v1/escalations", limit=3, cursor=first["next_cursor"])
    shown = [case["ticket_id"] for case in first["items"] + second["items"]]
    assert shown[0] == "t-4"
    assert [{*shown[1:3]}, {*shown[3:]}] == [{"t-2", "t-3"}, {"t-0", "t-1"}]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "filters",
    [
        {"state": "acknowledged"},
        {"reason": "first_response_breached"},
        {"priority": "high"},
        {"customer_id": "c/2 ü"},
        {"ticket_id": "t 2"},
        {"from": at(1).isoformat(), "to": at(2).isoformat()},
        {"from": at(1).isoformat()},
        {"state": "acknowledged", "priority": "high", "ticket_id": "t 2"},
    ],
)
async def test_each_filter_returns_exactly_the_matching_case(
    handlers: Handlers, sessions: Sessions, client: Client, time_passes: TimePasses, filters: dict[str, str]
) -> None:
    other = {"ticket_id": "t 2", "customer_id": "c/2 ü", "topic": "touchpoints.v1", "partition": 0}
    await apply(handlers, sessions, [urgent(), make.ticket_opened(**other, time=at(1) - timedelta(seconds=14_400))])
    await time_passes()
    wanted = uuid5(ticket_cause("acme", "t 2"), "first-response-breached")
    await post(client(), "acknowledge", case=wanted)
    assert [case["id"] for case in (await get(client(), "/v1/escalations", **filters))["items"]] == [str(wanted)]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "lost"}, "state.0"),
        ({"reason": "anger"}, "reason.0"),
        ({"from": "yesterday"}, "from"),
        ({"limit": 0}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"sate": "open"}, "sate"),
    ],
)
async def test_an_invalid_filter_is_422_and_the_problem_names_it(
    client: Client, params: dict[str, Any], field: str
) -> None:
    refused = await problem(client().get("/v1/escalations", params=params), 422)
    assert [error["field"] for error in refused["errors"]] == [field]


async def test_filters_by_recording_time_find_a_case_that_was_recorded_late(
    handlers: Handlers, sessions: Sessions, client: Client
) -> None:
    late = urgent("ticket-late", id="late", time=at(-72), recorded=at(1))
    await apply(handlers, sessions, [urgent(), late])
    for bound, ticket in (("recorded_from", "ticket-late"), ("recorded_to", "ticket-1")):
        listed = await get(client(), "/v1/escalations", **{bound: at(1).isoformat()})
        assert [case["ticket_id"] for case in listed["items"]] == [ticket]


async def test_a_filter_with_several_values_lists_the_cases_of_each(
    handlers: Handlers, sessions: Sessions, client: Client
) -> None:
    await apply(handlers, sessions, [urgent(f"ticket-{n}", id=f"opened-{n}", time=at(n)) for n in range(3)])
    listed = await get(client(), "/v1/escalations", ticket_id=["ticket-0", "ticket-2"], state=["open", "acknowledged"])
    assert [case["ticket_id"] for case in listed["items"]] == ["ticket-2", "ticket-0"]


@pytest.mark.usefixtures("case")
async def test_an_acknowledgement_names_the_person_and_is_published(client: Client, published: Published) -> None:
    answered = await post(client(), "acknowledge", {"by": "Ana"})
    assert (answered["state"], answered["case_version"]) == ("acknowledged", 2)
    assert answered["acknowledged_by"] == "Ana (key-1)"
    assert await get(client(), f"/v1/escalations/{CASE}") | {"clock": None} == answered | {"clock": None}
    opened, acknowledged = await published()
    assert acknowledged["type"] == "escalation.acknowledged"
    assert acknowledged["time"] == acknowledged["acknowledged_at"] == answered["acknowledged_at"]
    changed = {"type", "time", "event_id", "case_version", "state", "acknowledged_at", "acknowledged_by"}
    assert {k: v for k, v in acknowledged.items() if k not in changed} == {
        k: v for k, v in opened.items() if k not in changed
    }


@pytest.mark.usefixtures("case")
async def test_without_a_name_the_api_key_is_named_as_the_person(client: Client) -> None:
    assert (await post(client(), "acknowledge"))["acknowledged_by"] == "key-1"


@pytest.mark.usefixtures("case")
async def test_a_second_acknowledgement_changes_nothing(client: Client, published: Published) -> None:
    first = await post(client(), "acknowledge", {"by": "Ana"})
    assert await post(client(), "acknowledge", {"by": "Ben"}) == first
    assert [event["type"] for event in await published()] == ["escalation.opened", "escalation.acknowledged"]


@pytest.mark.usefixtures("case")
async def test_the_event_of_a_resolution_also_names_who_acknowledged_the_case(
    client: Client, published: Published
) -> None:
    await post(client(), "acknowledge", {"by": "Ana"})
    answered = await post(client(), "resolve", {"by": "Ben", "resolution": "Called back, all is well."})
    assert (answered["state"], answered["case_version"]) == ("resolved", 3)
    assert (answered["resolved_by"], answered["resolution"]) == ("Ben (key-1)", "Called back, all is well.")
    resolved = (await published())[-1]
    assert (resolved["type"], resolved["case_version"], resolved["state"]) == ("escalation.resolved", 3, "resolved")
    assert (resolved["acknowledged_by"], resolved["resolved_by"]) == ("Ana (key-1)", "Ben (key-1)")
    assert resolved["key"] == "acme:customer-1"


@pytest.mark.usefixtures("case")
async def test_an_open_case_can_be_resolved_at_once_and_only_once(client: Client, published: Published) -> None:
    first = await post(client(), "resolve", {"resolution": "a"})
    assert await post(client(), "resolve", {"resolution": "b"}) == first
    assert (first["state"], first["acknowledged_at"], first["resolution"]) == ("resolved", None, "a")
    assert len(await published()) == 2


@pytest.mark.usefixtures("case")
async def test_a_resolved_case_cannot_be_acknowledged(client: Client, published: Published) -> None:
    await post(client(), "resolve")
    refused = await problem(client().post(f"/v1/escalations/{CASE}/acknowledge"), 409)
    assert refused["type"] == "urn:touchpoint:problem:already-resolved"
    assert len(await published()) == 2


@pytest.mark.usefixtures("case")
async def test_another_cause_event_for_a_resolved_case_does_not_open_it_again(
    handlers: Handlers, sessions: Sessions, client: Client
) -> None:
    await post(client(), "resolve")
    await apply(handlers, sessions, [urgent(time=at(1))])
    assert (await get(client(), f"/v1/escalations/{CASE}"))["state"] == "resolved"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"by": ""}, "by"), ({"by": "x" * 101}, "by"), ({"by": "a\x00b"}, "by"), ({"who": "Ana"}, "who")],
)
@pytest.mark.parametrize("action", ["acknowledge", "resolve"])
@pytest.mark.usefixtures("case")
async def test_an_invalid_body_is_422_and_the_problem_names_the_field(
    client: Client, action: str, body: dict[str, str], field: str
) -> None:
    refused = await problem(client().post(f"/v1/escalations/{CASE}/{action}", json=body), 422)
    assert [error["field"] for error in refused["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"by":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"by":' + b"9" * 100_000 + b"}", 400),
        (b'{"by":"\xff"}', 400),
        (b'{"by":1e999999}', 422),
        (b'{"by":NaN}', 422),
        (b'{"by":"\\ud800"}', 422),
        (b"{" + b",".join(b'"x%d":1' % n for n in range(10_000)) + b"}", 422),
    ],
    ids=["deep", "deep inside", "digits", "Latin-1", "exponent", "NaN", "half a pair", "many members"],
)
async def test_a_hostile_body_is_a_4xx_with_a_short_problem(client: Client, body: bytes, status: int) -> None:
    path = f"/v1/escalations/{UUID(int=7)}/resolve"
    answer = await client().post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 10_000


@pytest.mark.usefixtures("case")
async def test_another_tenants_case_is_404(client: Client, published: Published) -> None:
    other = client(tenant="other")
    assert (await get(other, "/v1/escalations"))["items"] == []
    for request in (
        other.get(f"/v1/escalations/{CASE}"),
        other.post(f"/v1/escalations/{CASE}/acknowledge"),
        other.post(f"/v1/escalations/{CASE}/resolve"),
        client().get(f"/v1/escalations/{uuid4()}"),
    ):
        assert (await problem(request, 404))["type"] == "urn:touchpoint:problem:not-found"
    assert len(await published()) == 1


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/escalations", "escalations:read"),
        ("GET", f"/v1/escalations/{CASE}", "escalations:read"),
        ("POST", f"/v1/escalations/{CASE}/acknowledge", "escalations:write"),
        ("POST", f"/v1/escalations/{CASE}/resolve", "escalations:write"),
    ],
)
@pytest.mark.usefixtures("case")
async def test_every_route_needs_the_gateways_token_and_its_own_scope(
    client: Client, method: str, path: str, scope: str
) -> None:
    others = {"escalations:read", "escalations:write", "feedback:read"} - {scope}
    await problem(client(scopes=others).request(method, path), 403)
    await problem(client().request(method, path, headers={"Authorization": "Bearer nonsense"}), 401)
    assert (await client(scopes={scope}).request(method, path)).status_code == 200


@pytest.mark.usefixtures("case")
async def test_concurrent_acknowledgements_change_the_case_once(client: Client, published: Published) -> None:
    answers = await asyncio.gather(*(post(client(), "acknowledge", {"by": name}) for name in ("Ana", "Ben", "Cyd")))
    assert answers[0] == answers[1] == answers[2]
    assert len(await published()) == 2


async def test_the_internal_status_route_omits_unknown_events(client: Client) -> None:
    answer = await get(client(), "/internal/events", id=[str(uuid4()), str(uuid4())])
    assert answer["consumer"] == "escalation-svc"
    assert "ticket.opened" in answer["handles"]
    assert answer["events"] == {}
