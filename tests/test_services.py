"""What holds for every service that stores events and answers questions behind the gateway."""

import re
from decimal import Decimal
from importlib import import_module

import httpx
import msgspec
import pytest
from pydantic import SecretStr

from gateway.queries.routes import ROUTES
from touchpoint.contracts.schema import json_schema
from touchpoint.db.engine import create_engine
from touchpoint.http.identity import Caller, sign
from touchpoint.http.scopes import Scope
from touchpoint.testing import factories as make
from touchpoint.testing.api import SECRET, problem
from touchpoint.testing.orders import state_after

PACKAGES = {"feedback-svc": "feedback_svc", "escalation-svc": "escalation_svc", "metrics-svc": "metrics_svc"}

each_service = pytest.mark.parametrize("service", PACKAGES)
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture
def service() -> str:
    """Tests of all services are parametrized with it."""
    raise NotImplementedError


@pytest.fixture
def package(service):
    return PACKAGES[service]


def application(service):
    """The service's application; its database cannot be reached."""
    package, nowhere = PACKAGES[service], "postgresql:///unused"
    settings = import_module(f"{package}.config").Settings(
        database_url=SecretStr(nowhere), internal_token_secrets=[SECRET]
    )
    return import_module(f"{package}.app").create_app(settings, create_engine(nowhere, "tests"))


@each_service
def test_the_gateway_has_a_route_for_every_route_of_a_service(service):
    paths = application(service).openapi()["paths"]
    offered = {
        (method.upper(), path) for path, methods in paths.items() for method in methods if "/v1/ops/" not in path
    }
    assert offered == {(route.method, route.path) for route in ROUTES if route.service == service}


@each_route
async def test_a_service_requires_the_scope_that_the_gateway_requires(route):
    """The scope is checked before the path and the query, so these need not be valid."""
    app = application(route.service)
    token = sign(Caller("acme", frozenset(Scope) - {route.scope}, "key-1"), app.state.name, SECRET)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.request(route.method, route.path, headers={"Authorization": f"Bearer {token}"})
    assert problem(answer, 403)["detail"] == f"This API key lacks the scope {route.scope}."


def limits(kind):
    """The largest number that the contract allows in each field of numbers."""
    for name, field in json_schema(kind)["properties"].items():
        for option in field.get("anyOf", [field]):
            if "maximum" in option:
                yield name, option["maximum"]
            elif digits := re.fullmatch(
                r"\^\[0-9\]\{1,(\d+)\}\(\\\.\[0-9\]\{1,(\d+)\}\)\?\$", option.get("pattern", "")
            ):
                yield name, Decimal(f"{'9' * int(digits[1])}.{'9' * int(digits[2])}")


def placed(events):
    """The events with identities and positions of their own."""
    return [
        event.with_meta(msgspec.structs.replace(event.meta, id=f"e-{offset}", topic=event.topic, offset=offset))
        for offset, event in enumerate(events)
    ]


@each_service
async def test_a_service_stores_the_largest_numbers_that_the_contracts_allow(package, sessions):
    """An event whose amount does not fit its column would be a dead letter."""
    subject = import_module(f"{package}.verify").subject()
    events = [
        make.example(kind, **{field: limit})
        for kind in subject.handlers.events.values()
        for field, limit in limits(kind)
    ]
    assert events
    assert any((await state_after(subject, sessions, [placed(events)])).values())


@each_service
async def test_a_service_stores_the_same_rows_whenever_it_reads_an_event(package, sessions):
    """A handler that used a clock or a random number would store other rows the second time."""
    subject = import_module(f"{package}.verify").subject()
    events = placed(make.example(kind) for kind in subject.handlers.events.values())
    first = await state_after(subject, sessions, [events])
    assert any(first.values())
    assert await state_after(subject, sessions, [events]) == first
