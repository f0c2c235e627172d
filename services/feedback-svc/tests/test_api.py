from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from feedback_svc.app import create_app
from feedback_svc.config import Settings
from feedback_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.testing import apply
from touchpoint.testing import factories as make
from touchpoint.testing.api import clients, get

Client = Callable[..., httpx.AsyncClient]


def at(hour: int) -> str:
    return (make.NOON + timedelta(hours=hour)).isoformat()


async def test_a_tenant_sees_only_its_own_rows(sessions: Sessions, client: Client) -> None:
    mine, theirs = make.feedback(id="f-1"), make.feedback(id="f-1", tenant="globex")
    await apply(handlers, sessions, [mine, theirs])
    for tenant, event, other in (("acme", mine, theirs), ("globex", theirs, mine)):
        caller = client(tenant=tenant)
        for path in ("/v1/feedback", "/v1/customers/customer-1/timeline"):
            body = await get(caller, path)
            assert [row["id"] for row in body["items"]] == [str(event.meta.identity)], path
        assert (await caller.get(f"/v1/feedback/{other.meta.identity}")).status_code == 404


PATHS = ["/v1/feedback", f"/v1/feedback/{UUID(int=7)}", "/v1/customers/c/timeline"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_request_without_the_gateways_token_is_401(client: Client, path: str) -> None:
    answer = await client().get(path, headers={"Authorization": "Bearer made-up"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("path", "scope"), list(zip(PATHS, ["feedback:read", "feedback:read", "customers:read"], strict=True))
)
async def test_each_route_needs_its_scope(client: Client, path: str, scope: str) -> None:
    others = {"feedback:read", "customers:read", "events:write"} - {scope}
    assert (await client(scopes=others).get(path)).status_code == 403
    assert (await client(scopes={scope}).get(path)).status_code != 403


async def test_an_unavailable_database_is_503_with_retry_after() -> None:
    async with clients(create_app, Settings, "postgresql://nobody@127.0.0.1:1/none") as client:
        for path in PATHS:
            answer = await client().get(path)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:touchpoint:problem:database-unavailable")
            assert answer.headers["retry-after"]


async def test_a_parameter_for_a_single_value_given_twice_is_422_and_the_problem_names_it(client: Client) -> None:
    for path in ("/v1/feedback", "/v1/customers/C-1/timeline"):
        answer = await client().get(f"{path}?limit=1&limit=2&from=2026-01-01T00:00:00Z&from=2026-02-01T00:00:00Z")
        assert answer.status_code == 422
        assert [(e["field"], e["reason"]) for e in answer.json()["errors"]] == [
            ("limit", "is given 2 times: give it once"),
            ("from", "is given 2 times: give it once"),
        ]


async def test_filters_by_recording_time_find_an_event_that_was_recorded_late(
    sessions: Sessions, client: Client
) -> None:
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
