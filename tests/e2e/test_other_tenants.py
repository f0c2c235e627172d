"""No route of the gateway's document returns one tenant's data to another."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.policies import condition, policy, policy_file

SECRET = "what-only-acme-may-read"

POLICIES = policy_file(policy(all=[condition("kind", "is", "nps")]))


@pytest.fixture(scope="module")
async def system(running):
    async with running(POLICIES) as started:
        yield started


@pytest.fixture(scope="module")
async def doors(system) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Clients of the gateway for two tenants, each with a key with all scopes."""
    async with AsyncExitStack() as stack:
        made = {}
        for tenant in ("acme", "globex"):
            headers = {"Authorization": f"Bearer {await system.create_key(tenant)}"}
            client = httpx.AsyncClient(base_url=system.url, headers=headers, timeout=20)
            made[tenant] = await stack.enter_async_context(client)
        yield made


@pytest.fixture(scope="module")
async def acmes(doors) -> dict[str, str]:
    """Ids of acme's objects by the name of the path parameter."""
    customer, event = str(uuid4()), str(uuid4())
    feedback = {
        "id": event, "kind": "nps", "channel": "web", "customer_id": customer, "product": SECRET, "text": SECRET,
        "score": {"value": 1, "min": 0, "max": 10},
    }  # fmt: skip
    taken = (await doors["acme"].post("/v1/feedback", json=feedback)).json()

    async def read(path: str, **query: str):
        answer = await doors["acme"].get(path, params=query)
        return answer.status_code == 200 and answer.json()

    cases = await eventually(lambda: _items(read("/v1/escalations", customer_id=customer)), 40)
    await eventually(lambda: read(f"/v1/feedback/{taken['feedback_id']}"))
    await eventually(lambda: _items(read("/v1/metrics/nps", **{"from": "2026-01-01T00:00:00Z", "to": _NEXT})), 40)
    return {
        "feedback_id": taken["feedback_id"],
        "escalation_id": cases[0]["id"],
        "customer_id": customer,
        "metric": "nps",
        "source": "%2Ftouchpoint%2Fgateway%2Ffeedback",
        "id": event,
    }


_NEXT = "2030-01-01T00:00:00Z"
NOT_AN_ID = {"metric", "source"}
"""Parameters whose values are the same for all tenants."""


async def _items(answer):
    page = await answer
    return page and [item for item in page["items"] if item.get("n", 1)]


async def _operations(door) -> list[tuple[str, str, dict]]:
    paths = (await door.get("/openapi.json")).json()["paths"]
    return [(m.upper(), path, operation) for path, operations in paths.items() for m, operation in operations.items()]


def _filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda parameter: ids[parameter[1]], path)


def _query(operation: dict) -> dict[str, str]:
    required = {parameter["name"] for parameter in operation.get("parameters", []) if parameter.get("required")}
    return {name: value for name, value in {"from": "2026-01-01T00:00:00Z", "to": _NEXT}.items() if name in required}


async def test_another_tenants_id_gets_the_same_response_as_an_unknown_id(doors, acmes):
    """The responses are equal byte for byte, except the id; a command changes nothing."""
    asked = 0
    for method, path, operation in await _operations(doors["globex"]):
        if not set(re.findall(r"\{(\w+)\}", path)) - NOT_AN_ID:
            continue
        unknown = {name: value if name in NOT_AN_ID else str(uuid4()) for name, value in acmes.items()}
        answers = []
        for ids in (acmes, unknown):
            answer = await doors["globex"].request(method, _filled(path, ids), params=_query(operation))
            body, headers = answer.text, {k: v for k, v in answer.headers.items() if k != "date"}
            for name in ids.keys() - NOT_AN_ID:
                body = body.replace(ids[name], "<id>")
            answers.append((answer.status_code, headers, body))
        assert answers[0] == answers[1], f"{method} {path}"
        assert answers[0][0] in (200, 404), f"{method} {path}"
        asked += 1
    assert asked >= 6
    case = (await doors["acme"].get(f"/v1/escalations/{acmes['escalation_id']}")).json()
    assert (case["state"], case["case_version"]) == ("open", 1)


async def test_no_route_shows_another_tenants_data(doors, acmes):
    """The same requests show acme its data, so there is something to find."""
    seen = {}
    for tenant, door in doors.items():
        text = ""
        for method, path, operation in await _operations(door):
            if method == "GET":
                text += (await door.get(_filled(path, acmes), params=_query(operation))).text
        seen[tenant] = text
    assert SECRET in seen["acme"]
    assert '"n":1' in seen["acme"]
    assert SECRET not in seen["globex"]
    assert '"n":1' not in seen["globex"]


async def test_the_same_id_from_two_tenants_is_two_events(doors, acmes):
    again = {"id": acmes["id"], "kind": "text", "channel": "web", "customer_id": acmes["customer_id"], "text": "ours"}
    taken = (await doors["globex"].post("/v1/feedback", json=again)).json()
    assert taken["feedback_id"] != acmes["feedback_id"]

    async def stored():
        return (await doors["globex"].get(f"/v1/feedback/{taken['feedback_id']}")).status_code == 200

    await eventually(stored)
    for door, text in ((doors["globex"], "ours"), (doors["acme"], SECRET)):
        timeline = (await door.get(f"/v1/customers/{acmes['customer_id']}/timeline?type=feedback.submitted")).json()
        assert [entry["details"]["text"] for entry in timeline["items"]] == [text]
    mine = (await doors["acme"].get(taken["status_url"])).json()
    assert {item["conflicting"] for item in mine["consumers"]} == {False}
