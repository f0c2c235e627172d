import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from escalation_svc import repository
from escalation_svc.models import Base
from touchpoint.db import databases, migrate
from touchpoint.testing.servers import Servers

COLUMNS = """
SELECT table_name, column_name, is_nullable = 'YES' AS nullable FROM information_schema.columns
 WHERE table_schema = 'public'
"""
UNIQUE = """
SELECT c.relname, a.attname
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE i.indisunique AND c.relname = ANY($1)
"""
OURS = ["customers", "clocks", "escalations"]


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[str]:
    """A database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    yield await databases.create(servers.dsn, name)
    await databases.drop(servers.dsn, name)


async def fetch(dsn: str, query: str, *arguments: object) -> set[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return {tuple(row) for row in await connection.fetch(query, *arguments)}
    finally:
        await connection.close()


async def test_two_upgrades_at_once_make_one_schema(empty: str) -> None:
    await asyncio.gather(*(migrate.upgrade("escalation_svc", empty) for _ in range(2)))
    assert {*OURS, "inbox", "outbox", "offsets"} <= {str(row[0]) for row in await fetch(empty, COLUMNS)}


async def test_an_upgrade_of_the_newest_schema_changes_nothing(empty: str) -> None:
    await migrate.upgrade("escalation_svc", empty)
    before = await fetch(empty, COLUMNS)
    await migrate.upgrade("escalation_svc", empty)
    assert await fetch(empty, COLUMNS) == before


async def test_the_tables_are_what_models_and_repository_say(dsn: str) -> None:
    found = await fetch(dsn, COLUMNS)
    (table,) = Base.metadata.tables.values()
    declared = {(table.name, column.name, bool(column.nullable)) for column in table.columns}
    assert {row for row in found if row[0] == table.name} == declared
    assert {str(row[1]) for row in found if row[0] == "customers"} == set(repository.CUSTOMER_COLUMNS)


async def test_every_unique_index_of_a_domain_table_begins_with_the_tenant(dsn: str) -> None:
    assert await fetch(dsn, UNIQUE, OURS) == {(table, "tenant_id") for table in OURS}
