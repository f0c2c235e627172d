from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from feedback_svc.app import create_app
from feedback_svc.config import Settings
from feedback_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.testing import apply
from touchpoint.testing import factories as make
from touchpoint.testing.api import clients

Client = Callable[..., httpx.AsyncClient]


def at(hour: int) -> str:
    return (make.NOON + timedelta(hours=hour)).isoformat()


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, path: str, **params: Any) -> list[str]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]


async def test_one_feedback_is_answered_as_it_was_sent(sessions: Sessions, client: Client) -> None:
    event = make.feedback(id="f-1", source="/survey", recorded=make.NOON + timedelta(minutes=1), language="en")
    await apply(handlers, sessions, [event])
    assert await get(client(), f"/v1/feedback/{event.meta.identity}") == {
        "id": str(event.meta.identity), "source": "/survey", "event_id": "f-1", "kind": "nps", "channel": "email",
        "occurred_at": "2026-11-20T12:00:00Z", "recorded_at": "2026-11-20T12:01:00Z", "backfill": False,
        "customer_id": "customer-1", "score": {"value": 9, "min": 0, "max": 10}, "text": "Quick and friendly.",
        "language": "en", "survey_id": None, "question_id": None, "submission_id": None, "journey_stage": None,
        "product": None,
    }  # fmt: skip


async def test_the_list_is_newest_first_in_pages(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(id=f"f-{n}", time=make.NOON + timedelta(hours=n)) for n in range(5)])
    first = await get(client(), "/v1/feedback", limit=3)
    second = await get(client(), "/v1/feedback", limit=3, cursor=first["next_cursor"])
    assert [row["event_id"] for row in first["items"]] == ["f-4", "f-3", "f-2"]
    assert [row["event_id"] for row in second["items"]] == ["f-1", "f-0"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "filters",
    [
        {"kind": "rating"},
        {"channel": "store"},
        {"customer_id": "c/2 ü"},
        {"survey_id": "s-2"},
        {"product": "desk"},
        {"journey_stage": "delivery"},
        {"language": "pt-BR"},
        {"max_score": 2.5},
        {"kind": "rating", "min_score": 2.5, "max_score": 2.5, "channel": "store"},
        {"from": at(1), "to": at(2)},
        {"from": at(1)},
    ],
)
async def test_each_filter_finds_what_it_names_and_nothing_else(
    sessions: Sessions, client: Client, filters: dict[str, Any]
) -> None:
    wanted = make.feedback(
        id="wanted", kind="rating", channel="store", customer_id="c/2 ü", score={"value": 2.5, "min": 0, "max": 5},
        survey_id="s-2", product="desk", journey_stage="delivery", language="pt-BR",
        time=make.NOON + timedelta(hours=1),
    )  # fmt: skip
    await apply(handlers, sessions, [make.feedback(), wanted, make.feedback(kind="review", score=None)])
    found = await get(client(), "/v1/feedback", **filters)
    assert [row["event_id"] for row in found["items"]] == ["wanted"]


async def test_a_page_of_long_texts_ends_early_and_the_next_goes_on(sessions: Sessions, client: Client) -> None:
    hours = [make.NOON + timedelta(hours=n) for n in range(45)]
    long = [make.feedback(id=f"f-{n}", time=time, text="x" * 50_000) for n, time in enumerate(hours)]
    await apply(handlers, sessions, [*long, make.feedback(id="short", text=None)])
    seen, cursor = list[str](), {}
    for expected in (20, 20, 6):
        found = await get(client(), "/v1/feedback", limit=100, **cursor)
        assert len(found["items"]) == expected
        seen += [row["event_id"] for row in found["items"]]
        cursor = {"cursor": found["next_cursor"]}
    assert cursor == {"cursor": None}
    assert len(set(seen)) == 46


async def test_the_end_of_a_time_range_is_not_part_of_it(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback()])
    assert len((await get(client(), "/v1/feedback", **{"from": at(0), "to": at(1)}))["items"]) == 1
    assert (await get(client(), "/v1/feedback", to=at(0)))["items"] == []


async def test_the_timeline_shows_a_customers_touchpoints_newest_first(sessions: Sessions, client: Client) -> None:
    events = [
        make.ticket_opened(),
        make.feedback(score=2, time=make.NOON + timedelta(hours=1)),
        make.ticket_replied(time=make.NOON + timedelta(hours=2)),
        make.feedback(customer_id="customer-2"),
    ]
    await apply(handlers, sessions, events)
    found = await get(client(), "/v1/customers/customer-1/timeline")
    titles = [entry["title"] for entry in found["items"]]
    assert titles == [
        "Agent replied on ticket ticket-1", "NPS 2 on 0–10 by email", "Ticket ticket-1 opened: It does not start",
    ]  # fmt: skip
    entry = found["items"][1]
    assert (entry["type"], entry["occurred_at"]) == ("feedback.submitted", "2026-11-20T13:00:00Z")
    assert entry["details"]["score"] == {"value": 2, "min": 0, "max": 10}
    assert (await get(client(), f"/v1/feedback/{entry['id']}"))["text"] == entry["details"]["text"]


async def test_a_timeline_can_be_narrowed_by_type_and_time(sessions: Sessions, client: Client) -> None:
    kinds = (make.ticket_opened, make.ticket_replied, make.feedback, make.ticket_replied)
    await apply(handlers, sessions, [kind(time=make.NOON + timedelta(hours=n)) for n, kind in enumerate(kinds)])
    found = await get(client(), "/v1/customers/customer-1/timeline", type=["ticket.opened", "ticket.replied"], to=at(3))
    assert [entry["type"] for entry in found["items"]] == ["ticket.replied", "ticket.opened"]


async def test_a_customer_nothing_is_known_of_has_an_empty_timeline(client: Client) -> None:
    assert await get(client(), "/v1/customers/nobody/timeline") == {"items": [], "next_cursor": None}


async def test_a_customers_id_may_have_slashes_and_other_signs(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.ticket_opened(customer_id="crm/42/timeline?#ü")])
    found = await get(client(), "/v1/customers/crm%2F42%2Ftimeline%3F%23%C3%BC/timeline")
    assert len(found["items"]) == 1


async def test_tenants_never_see_each_other(sessions: Sessions, client: Client) -> None:
    mine, theirs = make.feedback(id="f-1"), make.feedback(id="f-1", tenant="globex")
    await apply(handlers, sessions, [mine, theirs])
    for tenant, event, other in (("acme", mine, theirs), ("globex", theirs, mine)):
        caller = client(tenant=tenant)
        for path in ("/v1/feedback", "/v1/customers/customer-1/timeline"):
            found = await get(caller, path)
            assert [row["id"] for row in found["items"]] == [str(event.meta.identity)], path
        assert (await caller.get(f"/v1/feedback/{other.meta.identity}")).status_code == 404


async def test_unknown_feedback_is_not_found(client: Client) -> None:
    answer = await client().get(f"/v1/feedback/{uuid4()}")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:touchpoint:problem:not-found"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"survey": "s-1"}, "survey"),
        ({"kind": "emoji"}, "kind.0"),
        ({"customer_id": "a\0b"}, "customer_id.0"),
        ({"product": ""}, "product.0"),
        ({"min_score": "nan"}, "min_score"),
        ({"from": "2026-11-20T12:00:00"}, "from"),
        ({"from": "1793000000"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        # ["0001-01-01T00:00:00+14:00", a UUID]: looks like a cursor, but PostgreSQL has no such time
        (
            {"cursor": "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgIjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMCJd"},
            "cursor",
        ),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(client: Client, params: dict[str, str], field: str) -> None:
    assert await refused(client(), "/v1/feedback", **params) == [field]


async def test_a_wrong_type_or_customer_on_the_timeline_is_refused_by_name(client: Client) -> None:
    assert await refused(client(), "/v1/customers/c/timeline", type="ticket.burnt") == ["type.0"]
    assert await refused(client(), "/v1/customers/a%00b/timeline") == ["customer_id"]


PATHS = ["/v1/feedback", f"/v1/feedback/{UUID(int=7)}", "/v1/customers/c/timeline"]


@pytest.mark.parametrize("path", PATHS)
async def test_only_the_gateway_is_answered(client: Client, path: str) -> None:
    answer = await client().get(path, headers={"Authorization": "Bearer made-up"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("path", "scope"), list(zip(PATHS, ["feedback:read", "feedback:read", "customers:read"], strict=True))
)
async def test_each_route_needs_its_scope(client: Client, path: str, scope: str) -> None:
    others = {"feedback:read", "customers:read", "events:write"} - {scope}
    assert (await client(scopes=others).get(path)).status_code == 403
    assert (await client(scopes={scope}).get(path)).status_code != 403


async def test_with_the_database_away_it_is_503_and_said_when_to_try_again() -> None:
    async with clients(create_app, Settings, "postgresql://nobody@127.0.0.1:1/none") as client:
        for path in PATHS:
            answer = await client().get(path)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:touchpoint:problem:database-unavailable")
            assert answer.headers["retry-after"]


async def test_a_parameter_that_is_no_list_given_twice_is_refused_naming_it(client: Client) -> None:
    for path in ("/v1/feedback", "/v1/customers/C-1/timeline"):
        answer = await client().get(f"{path}?limit=1&limit=2&from=2026-01-01T00:00:00Z&from=2026-02-01T00:00:00Z")
        assert answer.status_code == 422
        assert [(e["field"], e["reason"]) for e in answer.json()["errors"]] == [
            ("limit", "is given 2 times: give it once"),
            ("from", "is given 2 times: give it once"),
        ]


async def test_a_plus_in_a_time_need_not_be_escaped(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(id="f-1", time=make.NOON)])
    for bound, found in (("from=2026-11-20T14:00:00+02:00", 1), ("from=2026-11-20T14:00:01+02:00", 0)):
        answer = await client().get(f"/v1/feedback?{bound}")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == found


async def test_a_poller_by_when_it_was_recorded_gets_what_comes_late(sessions: Sessions, client: Client) -> None:
    polled = make.NOON + timedelta(hours=1)
    early = make.feedback(id="early", time=make.NOON, recorded=make.NOON)
    late = make.feedback(id="late", time=make.NOON - timedelta(days=3), recorded=polled)
    await apply(handlers, sessions, [early, late])
    for path, name in (("/v1/feedback", "event_id"), ("/v1/customers/customer-1/timeline", "id")):
        names = {"event_id": ("early", "late"), "id": (str(early.meta.identity), str(late.meta.identity))}[name]
        since = (await get(client(), path, recorded_from=polled.isoformat()))["items"]
        before = (await get(client(), path, recorded_to=polled.isoformat()))["items"]
        assert ([row[name] for row in before], [row[name] for row in since]) == ([names[0]], [names[1]])
        assert since[0]["recorded_at"] == "2026-11-20T13:00:00Z"


async def test_a_filter_with_several_values_finds_each(sessions: Sessions, client: Client) -> None:
    score = {"value": 4, "min": 1, "max": 5}
    events = [make.feedback(id=kind, kind=kind, score=score) for kind in ("csat", "ces", "rating")]
    await apply(handlers, sessions, events)
    found = await get(client(), "/v1/feedback", kind=["csat", "rating"], channel=["email", "web"])
    assert sorted(row["event_id"] for row in found["items"]) == ["csat", "rating"]
    assert await refused(client(), "/v1/feedback", kind=["csat", "cast"]) == ["kind.1"]
    assert await refused(client(), "/v1/feedback", product=[str(n) for n in range(21)]) == ["product"]
