"""Every route of the door against every way of not being let in. The routes are the gateway's own: a new one is in."""

from datetime import UTC, datetime
from itertools import product

import pytest
from sqlalchemy import text
from starlette.responses import JSONResponse

from gateway import documents
from gateway.app import create_app
from gateway.config import Settings
from gateway.keys.decisions import split
from gateway.openapi import OWN_SCOPES
from gateway.operations.routes import OPERATIONS
from gateway.queries import routes as service_routes
from touchpoint.db.engine import create_engine, transaction
from touchpoint.http.scopes import OPERATORS, Scope

PUBLIC = {route.path for route in (*documents.routes(), documents.operations())}

FILLED = {
    "{feedback_id}": "0190a5f2-0000-7000-8000-000000000000",
    "{escalation_id}": "0190a5f2-0000-7000-8000-000000000000",
    "{customer_id:path}": "C-1",
    "{metric}": "nps",
    "{source:path}/{id:path}": "%2Fcrm/4711",
    "{consumer}": "feedback-svc",
    "{topic}/{partition}/{offset}": "touchpoints.v1/3/1042",
    "{replay_id}": "0190a5f2-0000-7000-8000-000000000000",
}

_SETTINGS = Settings(database_url="postgresql:///unused", internal_token_secrets=["unused" * 6])
_APP = create_app(_SETTINGS, create_engine("postgresql:///unused", "tests"))
PUBLIC_ROUTES, OPERATORS_ROUTES = (
    [(method, route.path) for route in app.routes if route.path not in PUBLIC for method in sorted(route.methods)]
    for app in (_APP, _APP.state.beside)
)
ROUTES = [*PUBLIC_ROUTES, *OPERATORS_ROUTES]
SCOPES = {(route.method, route.pattern): route.scope for route in service_routes.ROUTES} | {
    **{(operation.method, operation.path): operation.scope for operation in OPERATIONS},
    ("POST", "/v1/events"): OWN_SCOPES["send_event"],
    ("POST", "/v1/batches"): OWN_SCOPES["send_batch"],
    ("POST", "/v1/feedback"): OWN_SCOPES["send_feedback"],
    ("GET", "/v1/events/{source:path}/{id:path}"): OWN_SCOPES["get_event_status"],
    ("POST", "/v1/events/statuses"): OWN_SCOPES["find_event_statuses"],
}


def needed(method, path):
    return SCOPES["GET" if method == "HEAD" else method, path]


def place(path):
    """Where a route is asked: the operators' at the admin address."""
    host = "http://admin" if path.startswith("/v1/ops") else ""
    for parameter, value in FILLED.items():
        path = path.replace(parameter, value)
    assert "{" not in path, f"say in FILLED what {path} is to be asked with"
    return host + path


@pytest.fixture
async def ask(open_door, behind):
    """Asks a route of a gateway whose services would all answer."""
    away = {f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")}
    behind.answer = lambda _: JSONResponse({"secret": "of a tenant", "items": []})
    door = await open_door(**away)

    async def send(method, path, **headers):
        url = path if path.startswith("http") else place(path)
        answer = await door.request(method, url, headers={"Authorization": "", **headers})
        if answer.status_code not in (404, 405):
            assert answer.headers["cache-control"] == "no-store", f"{method} {path}"
            assert answer.headers["x-content-type-options"] == "nosniff", f"{method} {path}"
        return answer

    return send


@pytest.fixture
async def refused(ask, behind, log):
    """Asks a route, sees it refused, and that neither a service nor Kafka heard of it."""

    async def send(method, path, status, **headers):
        answer = await ask(method, path, **headers)
        assert answer.status_code == status, f"{method} {path}"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith('Bearer realm="touchpoint"')
        assert behind.asked == []
        return answer

    yield send
    assert await log() == []


@pytest.fixture
def issue_spoilt(issue, sessions):
    """Makes a key that was good once: `revoked_at` or `expires_at` has passed."""

    async def make(column):
        token = await issue()
        async with transaction(sessions) as session:
            spoil = text(f"UPDATE api_keys SET {column} = :now WHERE prefix = :prefix")
            await session.execute(spoil, {"now": datetime.now(UTC), "prefix": split(token)[0]})
        return token

    return make


async def test_without_a_key_in_its_place_no_route_says_anything(refused, issue):
    token = await issue()
    misplaced = (
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": token},
        {"Authorization": f"Basic {token}"},
        {"Authorization": f"Bearer{token}"},
        {"X-API-Key": token},
        {"Cookie": f"Authorization=Bearer {token}"},
        {"Proxy-Authorization": f"Bearer {token}"},
    )
    for (method, path), headers in product(ROUTES, misplaced):
        answer = await refused(method, path, 401, **headers)
        assert "error=" not in answer.headers["www-authenticate"]


async def test_a_key_that_opens_nothing_is_the_same_whatever_is_wrong_with_it(refused, issue, issue_spoilt):
    token = await issue()
    other = await issue()
    wrong = {
        "made up": "tp_nonsense",
        "unknown": f"tp_{'0' * 12}_{'0' * 64}",
        "another key's secret": f"{token[:-64]}{other[-64:]}",
        "cut": token[:-1],
        "longer": f"{token}0",
        "two keys": f"{token}, {token}",
        "in capitals": token.upper(),
        "revoked": await issue_spoilt("revoked_at"),
        "expired": await issue_spoilt("expires_at"),
        "no token at all": "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJhY21lIn0.",
    }
    codes = set()
    for (method, path), key in product(ROUTES, wrong.values()):
        answer = await refused(method, path, 401, Authorization=f"Bearer {key}")
        if method != "HEAD":
            codes.add((answer.content, answer.headers["www-authenticate"]))
    assert len(codes) == 1


async def test_every_other_scope_together_does_not_open_a_route(refused, issue):
    without = {scope: await issue(scopes=set(Scope) - {scope}) for scope in Scope}
    nothing = await issue(scopes=set())
    for method, path in ROUTES:
        scope = needed(method, path)
        answer = await refused(method, path, 403, Authorization=f"Bearer {without[scope]}")
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        await refused(method, path, 403, Authorization=f"Bearer {nothing}")


async def test_its_scope_alone_opens_a_route(ask, issue):
    alone = {scope: await issue(scopes={scope}) for scope in Scope}
    for method, path in ROUTES:
        answer = await ask(method, path, Authorization=f"Bearer {alone[needed(method, path)]}")
        assert answer.status_code in (200, 400, 415), f"{method} {path}"


async def test_a_method_a_path_does_not_have_does_nothing_even_with_a_key(ask, issue, behind, log):
    override = {"Authorization": f"Bearer {await issue()}", "X-HTTP-Method-Override": "POST"}
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    for (_, path), method, headers in product(ROUTES, methods, ({}, override)):
        if (method, path) not in ROUTES:
            assert (await ask(method, path, **headers)).status_code == 405, f"{method} {path}"
    assert behind.asked == []
    assert await log() == []


async def test_the_operators_routes_are_not_at_the_public_address_whatever_the_key(ask, issue, behind):
    """Nor what is public at the operators': each address has its own."""
    key = {"Authorization": f"Bearer {await issue()}"}
    for method, path in OPERATORS_ROUTES:
        answer = await ask(method, place(path).replace("http://admin", "http://gateway"), **key)
        assert answer.status_code == 404, f"{method} {path}"
    for method, path in PUBLIC_ROUTES:
        answer = await ask(method, f"http://admin{place(path)}", **key)
        assert answer.status_code == 404, f"{method} {path}"
    assert behind.asked == []


async def test_every_tenants_scope_together_opens_no_route_of_operators(refused, issue):
    token = await issue(scopes=set(Scope) - OPERATORS)
    for method, path in OPERATORS_ROUTES:
        await refused(method, path, 403, Authorization=f"Bearer {token}")
