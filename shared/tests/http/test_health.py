"""Readiness checks: they may be added while others run, and may fail with an exception."""

import asyncio

import httpx
import pytest

from touchpoint.http.health import Check, admin_app
from touchpoint.process.heartbeat import beat
from touchpoint.testing import eventually


@pytest.fixture
def checks() -> dict[str, Check]:
    """Checks of a starting process: each run of the first one adds another check."""
    starting: dict[str, Check] = {}

    async def well() -> str | None:
        return None

    async def beginning() -> str | None:
        starting[f"check-{len(starting)}"] = well
        return None

    starting |= {"beginning": beginning, "database": well}
    return starting


async def test_a_check_may_be_added_while_readyz_or_metrics_run_the_others(checks):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(admin_app(checks)), base_url="http://admin") as client:
        for path in ("/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_a_check_that_raises_an_exception_has_failed_and_hides_no_other():
    async def broken() -> str | None:
        raise RuntimeError

    async def well() -> str | None:
        return None

    app = admin_app({"outbox": broken, "database": well})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"outbox": "RuntimeError", "database": "ok"}


async def test_a_check_may_be_added_while_the_heartbeat_runs_the_others(checks, ledger):
    stop = asyncio.Event()
    beating = asyncio.create_task(beat("all", checks, (), ledger.sessions, stop))
    await eventually(lambda: ledger.query("SELECT 1 FROM processes WHERE not_ready IS NULL"))
    stop.set()
    await beating
