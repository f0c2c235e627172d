"""What a client can ask for and hold, tried on running processes over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import System


@pytest.fixture(scope="module")
async def system(running) -> AsyncIterator[System]:
    async with running(STATEMENT_SECONDS="60", QUERY_SECONDS="60") as started:
        yield started


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture
async def gateway(system, key) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        yield client


@pytest.fixture
async def slow_feedback(system) -> AsyncIterator[asyncpg.Connection]:
    """The service's database, in which reading feedback takes a minute."""
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    await connection.execute(
        "ALTER TABLE feedback RENAME TO quick; "
        "CREATE VIEW feedback AS SELECT * FROM quick WHERE (SELECT pg_sleep(60)::text) IS NOT NULL; "
        "GRANT SELECT ON feedback TO feedback_svc_api"
    )
    yield connection
    await connection.execute("DROP VIEW feedback; ALTER TABLE quick RENAME TO feedback")
    await connection.close()


async def test_a_client_that_hangs_up_at_the_gateway_ends_its_query_in_the_services_database(gateway, slow_feedback):
    async def queries() -> int:
        return await slow_feedback.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
            "AND query LIKE '%FROM feedback%' AND pid <> pg_backend_pid()"
        )

    asked = asyncio.create_task(gateway.get("/v1/feedback"))
    await eventually(queries)
    asked.cancel()

    async def ended() -> bool:
        return await queries() == 0

    await eventually(ended)
