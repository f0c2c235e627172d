"""The services' authentication: only a valid token, signed by the gateway for this service, opens a route."""

import base64
import json
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any

import httpx
import jwt
import pytest
from fastapi import Depends
from fastapi.routing import iter_route_contexts

from touchpoint.db.engine import create_engine, sessions
from touchpoint.http.identity import LIFETIME_SECONDS, PUBLIC, REUSE_SECONDS, Caller, current_or_public, sign
from touchpoint.http.scopes import OPERATORS, Scope
from touchpoint.testing.api import SECRET

SERVICES = ["escalation_svc", "feedback_svc", "metrics_svc"]
CALLER = Caller("acme", frozenset(Scope), "key-1")
ID = "0190a5f2-0000-7000-8000-000000000000"
FILLED = {
    "{feedback_id}": ID,
    "{escalation_id}": ID,
    "{event_id}": ID,
    "{customer_id:path}": "C-1",
    "{metric}": "nps?from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z",
    "{consumer}": "some-svc",
    "{topic}/{partition}/{offset}": "touchpoints.v1/0/0",
    "{replay_id}": ID,
    "{name}": "nps",
}
KEY_REQUIRED = "urn:touchpoint:problem:key-required"
BODIES = {
    "/v1/ops/consumers": {"reason": "a test"},
    "/v1/ops/dead-letters": {"consumer": "some-svc"},
    "/v1/ops/replays/": {"reason": "a test"},
    "/v1/ops/replays": {"consumer": "some-svc", "from": ["2h"]},
    "/v1/ops/rebuilds": {"consumer": "some-svc", "reason": "a test"},
}
"""The bodies of commands: a path gets the body of the first key that it begins with."""


def claims(audience: str, **over: Any) -> dict[str, Any]:
    good = {"iss": "gateway", "aud": audience, "exp": int(time.time()) + 30, "tenant": "acme", "key": "key-1"}
    return {name: value for name, value in (good | {"scopes": sorted(Scope)} | over).items() if value is not None}


def signed(audience: str, secret: str | None = None, algorithm: str = "HS256", **over: Any) -> str:
    return jwt.encode(claims(audience, **over), secret or SECRET.get_secret_value(), algorithm)


def unsigned(audience: str, algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, claims(audience))
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}."


def wrong(audience: str) -> Iterator[tuple[str, str]]:
    """Authorization headers without a valid token; the first item says what is wrong with it."""
    yield "nothing", ""
    yield "no scheme", signed(audience)
    yield "another scheme", f"Basic {signed(audience)}"
    yield "an API key", f"Bearer tp_{'0' * 12}_{'0' * 64}"
    yield "another service's", f"Bearer {sign(CALLER, 'some-other-svc', SECRET)}"
    yield "for every service", f"Bearer {signed(['feedback', 'metrics'])}"
    yield "for none", f"Bearer {signed(audience, aud=None)}"
    yield "of another issuer", f"Bearer {signed(audience, iss='feedback-svc')}"
    yield "expired", f"Bearer {signed(audience, exp=int(time.time()) - 1)}"
    yield "for ever", f"Bearer {signed(audience, exp=None)}"
    yield "not yet good", f"Bearer {signed(audience, nbf=int(time.time()) + 60)}"
    yield "of no tenant", f"Bearer {signed(audience, tenant=None)}"
    yield "of no scopes", f"Bearer {signed(audience, scopes=None)}"
    yield "of no key", f"Bearer {signed(audience, key=None)}"
    yield "another secret", f"Bearer {signed(audience, 'y' * 64)}"
    yield "another algorithm", f"Bearer {signed(audience, algorithm='HS512')}"
    for algorithm in ("none", "None", "HS256", "RS256", ""):
        yield f"unsigned {algorithm}", f"Bearer {unsigned(audience, algorithm)}"
    head, body, signature = signed(audience).split(".")
    other = signed(audience, tenant="globex").split(".")[1]
    yield "another body", f"Bearer {head}.{other}.{signature}"
    yield "cut", f"Bearer {head}.{body}."
    yield "twice", f"Bearer {signed(audience)} {signed(audience)}"


@pytest.fixture(params=SERVICES)
def app(request: pytest.FixtureRequest) -> Any:
    """A service whose database cannot be reached: a refused request never needs it."""
    settings = import_module(f"{request.param}.config").Settings(
        database_url="postgresql:///unused", internal_token_secrets=[SECRET]
    )
    nowhere = create_engine("postgresql://nobody@127.0.0.1:1/none", "tests")
    app = import_module(f"{request.param}.app").create_app(settings, nowhere)
    app.state.above_tenants = sessions(nowhere)
    return app


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route of the service, with the path's parameters filled in."""
    for route in iter_route_contexts(app.routes):
        path = route.path
        for parameter, value in FILLED.items():
            path = path.replace(parameter, value)
        assert "{" not in path, f"say in FILLED what {path} is to be asked with"
        yield from ((method, path) for method in route.methods)


def _body(path: str) -> Any:
    return next((body for begin, body in BODIES.items() if path.startswith(begin)), None)


async def test_every_route_answers_every_invalid_token_with_the_same_401(app):
    bodies = set()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for method, path in routes(app):
            for kind, authorization in wrong(app.state.name):
                answer = await client.request(method, path, headers={"Authorization": authorization})
                assert answer.status_code == 401, f"{method} {path} with a token that is {kind}"
                bodies.add(answer.content)
    assert len(bodies) == 1


async def test_a_valid_token_opens_every_route_and_one_without_scopes_gets_403(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for method, path in routes(app):
            for scopes, status in ((frozenset(Scope), 503), (frozenset[str](), 403)):
                token = sign(Caller("acme", scopes, "key-1"), app.state.name, SECRET)
                headers, body = {"Authorization": f"Bearer {token}"}, _body(path)
                answer = await client.request(method, path, headers=headers, json=body)
                assert answer.status_code == (503 if path.startswith("/internal") else status), f"{method} {path}"


async def test_a_tenants_token_reaches_no_operators_route(app):
    token = sign(Caller("acme", frozenset(Scope) - OPERATORS, "key-1"), app.state.name, SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        operators_routes = [(method, path) for method, path in routes(app) if path.startswith("/v1/ops")]
        assert len(operators_routes) == 18
        for method, path in operators_routes:
            answer = await client.request(method, path, headers={"Authorization": f"Bearer {token}"}, json=_body(path))
            assert answer.status_code == 403, f"{method} {path}"


async def test_a_public_caller_reaches_only_routes_declared_public(app):
    @app.get("/v1/pages/{name}")
    async def page(caller: Annotated[Caller, Depends(current_or_public)], name: str) -> str:
        return f"{name} for {caller.tenant or 'everybody'}"

    headers = {"Authorization": f"Bearer {sign(PUBLIC, app.state.name, SECRET)}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/v1/pages/nps", headers=headers)).json() == "nps for everybody"
        assert (await client.get("/v1/pages/nps")).status_code == 401
        for method, path in routes(app):
            if path != "/v1/pages/nps":
                answer = await client.request(method, path, headers=headers, json=_body(path))
                assert (answer.status_code, answer.json()["type"]) == (403, KEY_REQUIRED), f"{method} {path}"


async def test_a_token_is_valid_for_a_minute_at_most(app):
    token = sign(CALLER, app.state.name, SECRET)
    left = jwt.decode(token, options={"verify_signature": False})["exp"] - time.time()
    assert LIFETIME_SECONDS - REUSE_SECONDS - 2 < left <= LIFETIME_SECONDS == 60
