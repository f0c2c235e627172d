from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from metrics_svc.counting.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.http.scopes import Scope
from touchpoint.testing import apply
from touchpoint.testing import factories as make

Client = Callable[..., httpx.AsyncClient]

DAY = {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"}


def later(minutes: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(minutes=minutes)}


async def ask(client: Client, metric: str, tenant: str = "acme", **params: Any) -> Any:
    answer = await client(tenant).get(f"/v1/metrics/{metric}", params=DAY | params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: Client, **params: Any) -> tuple[str, dict[str, str]]:
    """The problem's type, and reason by field."""
    answer = await client().get("/v1/metrics/nps", params=DAY | params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    return answer.json()["type"].rsplit(":", 1)[1], {e["field"]: e["reason"] for e in answer.json()["errors"]}


async def test_an_answer_has_n_the_numerators_and_the_interval(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(score=score) for score in (0, 6, 7, 8, 8, 9, 9, 10, 10, 10)])
    assert await ask(client, "nps") == {
        "metric": "nps",
        "unit": "points, -100 to 100",
        "from": "2026-11-20T00:00:00Z",
        "to": "2026-11-21T00:00:00Z",
        "interval": "total",
        "timezone": "UTC",
        "group_by": [],
        "items": [
            {
                "start": "2026-11-20T00:00:00Z",
                "end": "2026-11-21T00:00:00Z",
                "group": {},
                "n": 10,
                "value": 30.0,
                "interval_95": {"low": pytest.approx(-19.05, abs=0.01), "high": pytest.approx(65.20, abs=0.01)},
                "no_interval_because": None,
                "scale": "0-10",
                "distribution": {str(score): n for score, n in enumerate([1, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3])},
                "promoters": 5,
                "passives": 3,
                "detractors": 2,
            }
        ],
    }


async def test_an_item_sums_over_all_partitions(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(partition=n % 3, customer_id=f"c-{n}") for n in range(9)])
    (item,) = (await ask(client, "nps"))["items"]
    assert (item["n"], item["promoters"]) == (9, 9)


@pytest.mark.parametrize("metric", ["nps", "csat", "ces", "first-response", "resolution"])
async def test_nothing_measured_is_one_item_without_a_value(client: Client, metric: str) -> None:
    (item,) = (await ask(client, metric))["items"]
    assert (item["n"], item["value"], item["interval_95"]) == (0, None, None)
    assert item["no_interval_because"] == "nothing was measured"


async def test_each_group_has_an_item_in_each_period(sessions: Sessions, client: Client) -> None:
    await apply(
        handlers,
        sessions,
        [
            make.customer_updated(tier="key"),
            make.feedback(score=9, channel="chat"),
            make.feedback(score=2, customer_id="other", **later(60)),
        ],
    )
    hours = {"from": "2026-11-20T12:00:00Z", "to": "2026-11-20T15:00:00Z", "interval": "hour"}
    answer = await ask(client, "nps", **hours, group_by="channel,tier")
    assert answer["group_by"] == ["channel", "tier"]
    assert [(i["start"][11:13], *i["group"].values(), i["n"], i["value"]) for i in answer["items"]] == [
        ("12", "chat", "key", 1, 100),
        ("12", "email", "unknown", 0, None),
        ("13", "chat", "key", 0, None),
        ("13", "email", "unknown", 1, -100),
        ("14", "chat", "key", 0, None),
        ("14", "email", "unknown", 0, None),
    ]
    repeated = await ask(client, "nps", **hours, group_by=["channel", "tier"])
    assert repeated == answer


async def test_filters_narrow_what_is_counted(sessions: Sessions, client: Client) -> None:
    events = [make.customer_updated(customer_id=f"c-{tier}", tier=tier, segment="smb") for tier in ("key", "basic")]
    scores = [
        make.feedback(customer_id=f"c-{tier}", channel=channel)
        for tier in ("key", "basic")
        for channel in ("chat", "sms")
    ]
    await apply(handlers, sessions, [*events, *scores, make.feedback(customer_id=None, channel="chat")])
    asked = [
        {"tier": "key"},
        {"channel": ["chat", "sms"], "segment": "smb"},
        {"tier": ["key", "unknown"], "channel": "chat"},
    ]
    assert [(await ask(client, "nps", **where))["items"][0]["n"] for where in asked] == [2, 4, 2]


async def test_a_range_includes_its_start_and_excludes_its_end(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(score=9), make.feedback(score=1, **later(60))])
    (item,) = (await ask(client, "nps", **{"from": "2026-11-20T12:00:00Z", "to": "2026-11-20T13:00:00Z"}))["items"]
    assert (item["promoters"], item["detractors"]) == (1, 0)


async def test_days_of_a_zone_begin_at_its_midnight(sessions: Sessions, client: Client) -> None:
    late = make.NOON.replace(hour=23, minute=30)
    await apply(handlers, sessions, [make.feedback(time=late)])
    span = {"from": "2026-11-19T23:00:00Z", "to": "2026-11-21T23:00:00Z", "interval": "day"}
    answer = await ask(client, "nps", **span, timezone="Europe/Berlin")
    assert answer["timezone"] == "Europe/Berlin"
    assert [(i["start"], i["n"]) for i in answer["items"]] == [("2026-11-19T23:00:00Z", 0), ("2026-11-20T23:00:00Z", 1)]


async def test_answers_on_two_scales_are_never_pooled(sessions: Sessions, client: Client) -> None:
    seven = {"value": 7, "min": 1, "max": 7}
    five = {"value": 2, "min": 1, "max": 5}
    await apply(handlers, sessions, [make.feedback(kind="ces", score=score) for score in (seven, five, five)])
    items = (await ask(client, "ces"))["items"]
    assert [(i["scale"], i["n"], i["value"]) for i in items] == [("1-5", 2, 2), ("1-7", 1, 7)]


async def test_response_times_have_an_exact_mean_and_percentiles(sessions: Sessions, client: Client) -> None:
    minutes = [5, 10, 15, 20, 25, 30, 35, 40, 45, 600.5]
    for n, took in enumerate(minutes):
        ticket = {"ticket_id": f"t-{n}"}
        await apply(handlers, sessions, [make.ticket_opened(**ticket), make.ticket_replied(**ticket, **later(took))])
    answer = await ask(client, "first-response")
    (item,) = answer["items"]
    assert (answer["unit"], answer["relative_error"]) == ("seconds", 0.01)
    assert (item["n"], item["total_seconds"], item["mean_seconds"]) == (10, 49_530, 4_953)
    assert item["value"] == pytest.approx(25 * 60, rel=0.01)
    assert item["interval_95"]["low"] == pytest.approx(10 * 60, rel=0.01)
    assert item["p99_seconds"] == pytest.approx(600.5 * 60, rel=0.01)
    assert (await ask(client, "resolution"))["items"][0]["n"] == 0


async def test_a_group_without_counts_after_a_regrouping_has_no_item(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.ticket_opened(channel="chat"), make.ticket_replied(**later(10))])
    await apply(handlers, sessions, [make.ticket_opened(channel="phone", **later(-10))])
    items = (await ask(client, "first-response", group_by="channel"))["items"]
    assert [(i["group"]["channel"], i["n"], i["mean_seconds"]) for i in items] == [("phone", 1, 1200)]


async def test_a_tenant_sees_its_own_numbers_only(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.feedback(tenant="globex")])
    assert (await ask(client, "nps"))["items"][0]["n"] == 0
    assert (await ask(client, "nps", tenant="globex"))["items"][0]["n"] == 1


async def test_a_range_must_begin_and_end_on_a_quarter_of_an_hour_and_not_be_empty(client: Client) -> None:
    assert (await refused(client, to=DAY["from"]))[1].keys() == {"to"}
    _, reasons = await refused(client, **{"from": "2026-11-20T00:20:00Z"})
    assert "minute 0, 15, 30 or 45" in reasons["from"]
    _, reasons = await refused(client, to="2026-11-21T00:00:00")
    assert "offset" in reasons["to"]
    for beyond in ("1899-12-31T23:00:00Z", "2200-01-01T00:00:00Z", "9999-12-31T23:00:00Z"):
        assert (await refused(client, **{"from": "1899-01-01T00:00:00Z", "to": beyond}))[1].keys() >= {"from"}
    assert (await refused(client, to="9999-12-31T23:00:00Z"))[1].keys() == {"to"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval", "year"),
        ("group_by", "mood"),
        ("channel", "fax"),
        ("timezone", "Mars/Olympus"),
        ("groupby", "tier"),
        ("segment", "a\0b"),
        ("tier", "a\0b"),
        ("segment", ""),
    ],
)
async def test_an_invalid_parameter_is_422_and_the_problem_names_it(client: Client, name: str, value: str) -> None:
    _, reasons = await refused(client, **{name: value})
    assert {field.split(".")[0] for field in reasons} == {name}


async def test_too_many_periods_are_refused_and_the_problem_says_how_to_reduce_them(client: Client) -> None:
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z", "interval": "hour"}
    assert await refused(client, **span) == (
        "too-many-items",
        {"interval": "take a longer interval, a shorter range or fewer groups: periods × groups may be 1000 at most"},
    )


async def test_too_many_groups_are_refused(sessions: Sessions, client: Client) -> None:
    customers = [make.customer_updated(customer_id=f"c-{n}", segment=f"s-{n}") for n in range(60)]
    await apply(handlers, sessions, [*customers, *(make.feedback(customer_id=f"c-{n}") for n in range(60))])
    assert len((await ask(client, "nps", group_by="segment"))["items"]) == 60
    assert (await refused(client, interval="hour", group_by="segment"))[0] == "too-many-items"


@pytest.mark.parametrize(("zone", "offset"), [("Asia/Kolkata", 330), ("Asia/Kathmandu", 345)])
async def test_days_of_a_zone_whose_offset_is_not_a_whole_hour_are_counted_exactly(
    sessions: Sessions, client: Client, zone: str, offset: int
) -> None:
    midnight = make.NOON.replace(hour=0) + timedelta(days=1, minutes=-offset)
    seconds = (-1, 0, 86_399)
    await apply(handlers, sessions, [make.feedback(time=midnight + timedelta(seconds=s)) for s in seconds])
    span = {"from": "2026-11-19T00:00:00Z", "to": "2026-11-22T00:00:00Z", "interval": "day"}
    items = (await ask(client, "nps", **span, timezone=zone))["items"]
    assert [i["n"] for i in items] == [0, 1, 2, 0]


async def test_a_zone_whose_days_begin_within_a_quarter_of_an_hour_is_422_and_the_problem_suggests_utc(
    client: Client,
) -> None:
    span = {"from": "1930-01-01T00:00:00Z", "to": "1930-01-03T00:00:00Z"}
    code, reasons = await refused(client, interval="day", timezone="Africa/Monrovia", **span)
    assert code == "zone-off-the-quarter"
    assert "UTC" in reasons["timezone"]


async def test_an_empty_group_by_is_refused(client: Client) -> None:
    assert (await refused(client, group_by=""))[1].keys() == {"group_by.0"}


async def test_an_unknown_metric_is_refused(client: Client) -> None:
    answer = await client().get("/v1/metrics/happiness", params=DAY)
    assert answer.status_code == 422


async def test_a_request_needs_the_gateways_token_and_the_scope(client: Client) -> None:
    assert (await client(scopes={Scope.FEEDBACK_READ}).get("/v1/metrics/nps", params=DAY)).status_code == 403
    bare = client()
    del bare.headers["Authorization"]
    assert (await bare.get("/v1/metrics/nps", params=DAY)).status_code == 401


async def test_the_openapi_document_has_every_parameter_and_the_schema_of_each_metric(client: Client) -> None:
    document = client()._transport.app.openapi()
    route = document["paths"]["/v1/metrics/{metric}"]["get"]
    assert {p["name"] for p in route["parameters"]} == {
        "metric", "from", "to", "interval", "timezone", "group_by", "channel", "segment", "tier",
    }  # fmt: skip
    assert {"NpsAnswer", "CsatAnswer", "CesAnswer", "DurationAnswer"} <= document["components"]["schemas"].keys()
