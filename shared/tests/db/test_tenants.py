"""Transactions of one tenant: they set the tenant, commit or roll back, and leave the connection clean."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from touchpoint.db.engine import create_engine, raw_connection
from touchpoint.db.tenants import Tenants

TENANT = text("SELECT current_setting('touchpoint.tenant', true)")
SLEEP = text("SELECT pg_sleep(60)")


@pytest.fixture
async def engine(database: Any) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection, so that a transaction would notice what the previous one left on it."""
    engine = create_engine(await database("touchpoint.db"), "tests", pool_size=1)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (note text)"))
    yield engine
    await engine.dispose()


@pytest.fixture
def tenants(engine: AsyncEngine) -> Tenants:
    return Tenants(engine)


async def write(tenants: Tenants, note: str, then: Exception | None = None) -> None:
    async with tenants.transaction("acme") as session:
        await session.execute(text("INSERT INTO notes VALUES (:note)"), {"note": note})
        if then:
            raise then


async def notes(tenants: Tenants) -> list[str]:
    async with tenants.transaction("acme", read_only=True) as session:
        return list((await session.execute(text("SELECT note FROM notes"))).scalars())


async def connection_id(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def test_a_transaction_commits_or_rolls_back(tenants: Tenants) -> None:
    await write(tenants, "kept")
    with pytest.raises(ValueError, match="no"):
        await write(tenants, "dropped", ValueError("no"))
    assert await notes(tenants) == ["kept"]


async def test_the_tenant_ends_with_the_transaction(tenants: Tenants, engine: AsyncEngine) -> None:
    before = await connection_id(engine)
    for tenant in ("acme", "globex"):
        async with tenants.transaction(tenant) as session:
            assert (await session.execute(TENANT)).scalar() == tenant
        async with engine.connect() as connection:
            assert not (await connection.execute(TENANT)).scalar()
    assert await connection_id(engine) == before


async def test_a_read_only_transaction_cannot_write(tenants: Tenants) -> None:
    async with tenants.transaction("acme", read_only=True) as session:
        with pytest.raises(Exception, match="read-only transaction"):
            await session.execute(text("INSERT INTO notes VALUES ('x')"))


@pytest.mark.parametrize("name", ["", "a'; DROP TABLE notes --", "Acme", "a" * 64, "acme\n", "ä"])
async def test_an_invalid_tenant_begins_no_transaction(tenants: Tenants, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a tenant"):
        async with tenants.transaction(name):
            pass


async def test_queries_on_the_raw_connection_are_part_of_the_transaction(tenants: Tenants) -> None:
    with pytest.raises(ValueError, match="no"):
        async with tenants.transaction("acme") as session:
            raw = await raw_connection(session)
            await raw.execute("INSERT INTO notes VALUES ('dropped')")
            raise ValueError("no")
    assert await notes(tenants) == []


async def test_a_single_statement_sets_its_tenant_only_for_itself(tenants: Tenants, engine: AsyncEngine) -> None:
    before = await connection_id(engine)
    shown = "SELECT current_setting('touchpoint.tenant') AS set, caller.tenant AS named, $2::int AS value LIMIT 1"
    for tenant in ("acme", "globex", "a'; DROP TABLE notes --"):
        assert [tuple(row) for row in await tenants.fetch(tenant, shown, 7)] == [(tenant, tenant, 7)]
        async with engine.connect() as connection:
            assert not (await connection.execute(TENANT)).scalar()
    assert await connection_id(engine) == before


async def test_a_single_statement_returns_its_rows_in_order(tenants: Tenants) -> None:
    rows = await tenants.fetch("acme", "SELECT n FROM generate_series(1, 1000) AS n ORDER BY n * 7 % 1000 LIMIT 500")
    assert [row["n"] for row in rows] == sorted(range(1, 1001), key=lambda n: n * 7 % 1000)[:500]


async def test_a_cancelled_statement_leaves_its_connection_usable(tenants: Tenants, engine: AsyncEngine) -> None:
    before = await connection_id(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await tenants.fetch("acme", "SELECT pg_sleep(60) LIMIT 1")
    assert [row[0] for row in await tenants.fetch("acme", "SELECT caller.tenant LIMIT 1")] == ["acme"]
    assert await connection_id(engine) == before


async def test_after_commit_listeners_are_called_after_the_commit(tenants: Tenants) -> None:
    calls: list[str] = []
    for failure in (ValueError("no"), None):
        try:
            async with tenants.transaction("acme") as session:
                event.listen(session.sync_session, "after_commit", lambda _: calls.append("committed"))
                if failure:
                    raise failure
        except ValueError:
            calls.append("failed")
    assert calls == ["failed", "committed"]


async def test_a_cancelled_transaction_is_rolled_back(tenants: Tenants) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), tenants.transaction("acme") as session:
            await session.execute(text("INSERT INTO notes VALUES ('dropped')"))
            await session.execute(SLEEP)
    assert await notes(tenants) == []


async def test_a_connection_whose_rollback_was_cancelled_is_not_used_again(
    tenants: Tenants, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await connection_id(engine)
    execute = asyncpg.Connection.execute

    async def given_up(self: asyncpg.Connection, query: str, *args: Any, **options: Any) -> Any:
        if query == "ROLLBACK":
            raise asyncio.CancelledError
        return await execute(self, query, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", given_up)
        with pytest.raises(asyncio.CancelledError):
            await write(tenants, "dropped", ValueError("no"))
    assert await notes(tenants) == []
    assert await connection_id(engine) != before


async def test_a_connection_that_postgresql_closed_is_replaced_before_use(
    tenants: Tenants, engine: AsyncEngine, administrator: Any
) -> None:
    before = await connection_id(engine)
    await administrator(f"SELECT pg_terminate_backend({before}, 5000)")
    assert await notes(tenants) == []
    assert await connection_id(engine) != before


@pytest.fixture
async def administrator(servers: Any) -> AsyncIterator[Any]:
    """A function that runs an administrator's query on another connection."""
    connection = await asyncpg.connect(servers.dsn)
    yield connection.fetch
    await connection.close()
