from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from feedback_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.testing import apply
from touchpoint.testing import factories as make
from touchpoint.testing.api import get, refused

Client = Callable[..., httpx.AsyncClient]


def at(hour: int) -> str:
    return (make.NOON + timedelta(hours=hour)).isoformat()


async def test_the_answer_for_one_feedback_has_all_its_fields(sessions: Sessions, client: Client) -> None:
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
async def test_each_filter_returns_exactly_the_matching_feedback(
    sessions: Sessions, client: Client, filters: dict[str, Any]
) -> None:
    wanted = make.feedback(
        id="wanted", kind="rating", channel="store", customer_id="c/2 ü", score={"value": 2.5, "min": 0, "max": 5},
        survey_id="s-2", product="desk", journey_stage="delivery", language="pt-BR",
        time=make.NOON + timedelta(hours=1),
    )  # fmt: skip
    await apply(handlers, sessions, [make.feedback(), wanted, make.feedback(kind="review", score=None)])
    body = await get(client(), "/v1/feedback", **filters)
    assert [row["event_id"] for row in body["items"]] == ["wanted"]


async def test_a_page_of_long_texts_has_fewer_items_and_the_next_page_continues(
    sessions: Sessions, client: Client
) -> None:
    hours = [make.NOON + timedelta(hours=n) for n in range(45)]
    long = [make.feedback(id=f"f-{n}", time=time, text="x" * 50_000) for n, time in enumerate(hours)]
    await apply(handlers, sessions, [*long, make.feedback(id="short", text=None)])
    seen, cursor = list[str](), {}
    for expected in (20, 20, 6):
        body = await get(client(), "/v1/feedback", limit=100, **cursor)
        assert len(body["items"]) == expected
        seen += [row["event_id"] for row in body["items"]]
        cursor = {"cursor": body["next_cursor"]}
    assert cursor == {"cursor": None}
    assert len(set(seen)) == 46


async def test_the_end_of_a_time_range_is_not_part_of_it(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback()])
    assert len((await get(client(), "/v1/feedback", **{"from": at(0), "to": at(1)}))["items"]) == 1
    assert (await get(client(), "/v1/feedback", to=at(0)))["items"] == []


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
async def test_an_invalid_parameter_is_422_and_the_problem_names_it(
    client: Client, params: dict[str, str], field: str
) -> None:
    assert await refused(client(), "/v1/feedback", **params) == [field]


async def test_a_plus_in_a_time_need_not_be_escaped(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(id="f-1", time=make.NOON)])
    for bound, expected in (("from=2026-11-20T14:00:00+02:00", 1), ("from=2026-11-20T14:00:01+02:00", 0)):
        answer = await client().get(f"/v1/feedback?{bound}")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == expected


async def test_a_filter_with_several_values_matches_each_of_them(sessions: Sessions, client: Client) -> None:
    score = {"value": 4, "min": 1, "max": 5}
    events = [make.feedback(id=kind, kind=kind, score=score) for kind in ("csat", "ces", "rating")]
    await apply(handlers, sessions, events)
    body = await get(client(), "/v1/feedback", kind=["csat", "rating"], channel=["email", "web"])
    assert sorted(row["event_id"] for row in body["items"]) == ["csat", "rating"]
    assert await refused(client(), "/v1/feedback", kind=["csat", "cast"]) == ["kind.1"]
    assert await refused(client(), "/v1/feedback", product=[str(n) for n in range(21)]) == ["product"]
