"""The checks of a process, as /readyz and its heartbeat ask them."""

import asyncio

import httpx
import pytest

from touchpoint.http.health import Check, admin_app
from touchpoint.process.heartbeat import beat
from touchpoint.testing import eventually


@pytest.fixture
def checks() -> dict[str, Check]:
    """Of a process that is just beginning: whenever the first check is asked, another part adds its own."""
    found: dict[str, Check] = {}

    async def well() -> str | None:
        return None

    async def beginning() -> str | None:
        found[f"check-{len(found)}"] = well
        return None

    found |= {"beginning": beginning, "database": well}
    return found


async def test_a_check_that_is_added_while_the_others_are_asked_does_no_harm(checks):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(admin_app(checks)), base_url="http://admin") as client:
        for path in ("/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_nor_does_it_end_the_heartbeat(checks, ledger):
    stop = asyncio.Event()
    beating = asyncio.create_task(beat("all", checks, (), ledger.sessions, stop))
    await eventually(lambda: ledger.query("SELECT 1 FROM processes WHERE not_ready IS NULL"))
    stop.set()
    await beating
