"""Every route of the gateway with every kind of missing, invalid or insufficient API key.

The routes come from the gateway's application, so that a new route is tested, too.
"""

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
    """The URL of a route, with its parameters filled in; the operators' routes are at the admin address."""
    host = "http://admin" if path.startswith("/v1/ops") else ""
    for parameter, value in FILLED.items():
        path = path.replace(parameter, value)
    assert "{" not in path, f"say in FILLED what {path} is to be asked with"
    return host + path


@pytest.fixture
async def ask(open_door, behind):
    """A function that sends a request to a gateway whose services answer every request."""
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
    """A function that sends a request and asserts that it is refused and reaches neither a service nor Kafka."""

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
    """A function that creates a key and sets its `revoked_at` or `expires_at` to now, so that it becomes invalid."""

    async def make(column):
        token = await issue()
        async with transaction(sessions) as session:
            spoil = text(f"UPDATE api_keys SET {column} = :now WHERE prefix = :prefix")
            await session.execute(spoil, {"now": datetime.now(UTC), "prefix": split(token)[0]})
        return token

    return make


async def test_every_route_is_401_unless_the_authorization_header_holds_a_bearer_token(refused, issue):
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


async def test_every_kind_of_invalid_key_gets_the_same_401(refused, issue, issue_spoilt):
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


async def test_a_key_with_all_scopes_but_the_required_one_gets_403(refused, issue):
    without = {scope: await issue(scopes=set(Scope) - {scope}) for scope in Scope}
    nothing = await issue(scopes=set())
    for method, path in ROUTES:
        scope = needed(method, path)
        answer = await refused(method, path, 403, Authorization=f"Bearer {without[scope]}")
        assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        await refused(method, path, 403, Authorization=f"Bearer {nothing}")


async def test_a_key_with_only_the_required_scope_is_authorized(ask, issue):
    alone = {scope: await issue(scopes={scope}) for scope in Scope}
    for method, path in ROUTES:
        answer = await ask(method, path, Authorization=f"Bearer {alone[needed(method, path)]}")
        assert answer.status_code in (200, 400, 415), f"{method} {path}"


async def test_a_method_that_a_path_does_not_have_is_405_and_has_no_effect(ask, issue, behind, log):
    override = {"Authorization": f"Bearer {await issue()}", "X-HTTP-Method-Override": "POST"}
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    for (_, path), method, headers in product(ROUTES, methods, ({}, override)):
        if (method, path) not in ROUTES:
            assert (await ask(method, path, **headers)).status_code == 405, f"{method} {path}"
    assert behind.asked == []
    assert await log() == []


async def test_the_public_address_has_no_operators_routes_and_the_admin_address_no_public_ones(ask, issue, behind):
    """They are 404 even with a key that has all scopes."""
    key = {"Authorization": f"Bearer {await issue()}"}
    for method, path in OPERATORS_ROUTES:
        answer = await ask(method, place(path).replace("http://admin", "http://gateway"), **key)
        assert answer.status_code == 404, f"{method} {path}"
    for method, path in PUBLIC_ROUTES:
        answer = await ask(method, f"http://admin{place(path)}", **key)
        assert answer.status_code == 404, f"{method} {path}"
    assert behind.asked == []


async def test_a_key_with_all_scopes_but_the_operators_gets_403_from_operators_routes(refused, issue):
    token = await issue(scopes=set(Scope) - OPERATORS)
    for method, path in OPERATORS_ROUTES:
        await refused(method, path, 403, Authorization=f"Bearer {token}")
