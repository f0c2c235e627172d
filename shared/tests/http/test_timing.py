"""Metrics of requests: the number of series is bounded, whatever paths clients request."""

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from touchpoint.http.errors import ProblemError
from touchpoint.http.health import admin_app
from touchpoint.http.timing import Timed


def counted(route, status, method="GET"):
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("touchpoint_http_request_duration_seconds_count", labels) or 0


@pytest.fixture
def app():
    made = FastAPI()
    made.add_middleware(Timed)

    @made.get("/timed/{name}")
    async def answer(name: str) -> str:
        if name == "bug":
            raise LookupError(name)
        return name

    return made


async def ask(app, path, method="GET"):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.request(method, path)


async def test_a_request_is_counted_under_its_routes_pattern(app):
    for name in ("a", "b", "c"):
        await ask(app, f"/timed/{name}")
    assert counted("/timed/{name}", 200) == 3


async def test_unknown_paths_and_methods_share_one_series(app):
    before = counted("unknown", 404), counted("unknown", 404, "other")
    for name in ("a", "b", "c"):
        await ask(app, f"/made-up/{name}")
        await ask(app, f"/made-up/{name}", f"METHOD{name}")
    assert (counted("unknown", 404), counted("unknown", 404, "other")) == (before[0] + 3, before[1] + 3)


async def test_a_bug_is_counted_as_500(app):
    before = counted("/timed/{name}", 500)
    assert (await ask(app, "/timed/bug")).status_code == 500
    assert counted("/timed/{name}", 500) == before + 1


async def test_the_metrics_show_readiness_checks_even_when_a_check_has_a_bug():
    async def well():
        return None

    async def unwell():
        return "Kafka does not answer"

    async def broken():
        raise ProblemError(500, "x", "y")

    app = admin_app({"a-database": well, "a-kafka": unwell, "a-bug": broken})
    shown = (await ask(app, "/metrics")).text
    lines = {line for line in shown.splitlines() if line.startswith('touchpoint_ready{check="a-')}
    assert lines == {
        'touchpoint_ready{check="a-database"} 1.0',
        'touchpoint_ready{check="a-kafka"} 0.0',
        'touchpoint_ready{check="a-bug"} 0.0',
    }
