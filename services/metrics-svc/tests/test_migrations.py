import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from metrics_svc.models import Base
from touchpoint.db import databases, migrate
from touchpoint.db.engine import Sessions, create_engine
from touchpoint.testing.servers import Servers

COLUMNS = """
SELECT table_name, column_name, udt_name, is_nullable = 'YES' AS nullable FROM information_schema.columns
 WHERE table_schema = 'public'
"""
TYPES = {"TEXT": "text", "BIGINT": "int8", "INTEGER": "int4", "DATETIME": "timestamptz"}
UNIQUE = """
SELECT c.relname AS table, a.attname AS first
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE i.indisunique AND c.relname = ANY(:tables)
"""


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[str]:
    """A database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    yield await databases.create(servers.dsn, name)
    await databases.drop(servers.dsn, name)


async def described(dsn: str) -> set[tuple[str, str, str, bool]]:
    engine = create_engine(dsn, "tests")
    async with engine.connect() as connection:
        found = {tuple(row) for row in await connection.execute(text(COLUMNS))}
    await engine.dispose()
    return found


async def test_two_upgrades_at_once_make_one_schema(empty: str) -> None:
    await asyncio.gather(*(migrate.upgrade("metrics_svc", empty) for _ in range(2)))
    assert {"rollups", "customers", "tickets", "inbox", "outbox"} <= {table for table, *_ in await described(empty)}


async def test_an_upgrade_of_the_newest_schema_changes_nothing(empty: str) -> None:
    await migrate.upgrade("metrics_svc", empty)
    before = await described(empty)
    await migrate.upgrade("metrics_svc", empty)
    assert await described(empty) == before


async def test_the_tables_are_what_the_models_say(empty: str) -> None:
    await migrate.upgrade("metrics_svc", empty)
    tables = Base.metadata.tables
    declared = {
        (table.name, column.name, TYPES[str(column.type)], bool(column.nullable))
        for table in tables.values()
        for column in table.columns
    }
    assert {row for row in await described(empty) if row[0] in tables} == declared


async def test_unique_keys_begin_with_the_tenant(sessions: Sessions) -> None:
    async with sessions() as session:
        found = (await session.execute(text(UNIQUE), {"tables": list(Base.metadata.tables)})).all()
    assert {table for table, _ in found} == set(Base.metadata.tables)
    assert {first for _, first in found} == {"tenant_id"}
