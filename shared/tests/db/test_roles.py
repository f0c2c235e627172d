"""The API's role: created by the migration, or by an administrator with the statements that the error names."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from touchpoint.base.errors import UsageError
from touchpoint.db import databases, roles
from touchpoint.db.engine import create_engine
from touchpoint.process.service import database_check
from touchpoint.testing.servers import Servers


@pytest.fixture
async def role(servers: Servers) -> AsyncIterator[str]:
    """The name of a role that does not exist yet."""
    name = f"test_{uuid.uuid4().hex}"
    yield name
    async with databases.connected(servers.dsn) as connection:
        await connection.execute(f"DROP ROLE IF EXISTS {name}")


async def ensure(dsn: str, role: str) -> None:
    engine = create_engine(dsn, "tests")
    try:
        async with engine.connect() as connection:
            await connection.run_sync(roles.ensure, role)
    finally:
        await engine.dispose()


async def acts_as(dsn: str, role: str) -> str | None:
    """The result of a service's readiness check with connections that use the role."""
    engine = create_engine(dsn, "tests", role=role)
    try:
        return await database_check(engine)()
    finally:
        await engine.dispose()


async def test_a_role_is_created_once_and_can_be_used(servers: Servers, role: str) -> None:
    await ensure(servers.dsn, role)
    await ensure(servers.dsn, role)
    assert await acts_as(servers.dsn, role) is None


async def test_concurrent_migrations_create_one_role(servers: Servers, role: str) -> None:
    await asyncio.gather(*(ensure(servers.dsn, role) for _ in range(8)))
    assert await acts_as(servers.dsn, role) is None


async def test_a_user_who_may_create_roles_needs_no_superuser(
    servers: Servers, role: str, user: str, user_dsn: str
) -> None:
    async with databases.connected(servers.dsn) as connection:
        await connection.execute(f"ALTER ROLE {user} CREATEROLE")
    await ensure(user_dsn, role)
    assert await acts_as(user_dsn, role) is None
    async with databases.connected(user_dsn) as connection:
        await connection.execute(f"DROP ROLE {role}")


async def test_the_error_for_a_user_without_createrole_contains_the_statements_to_run(
    servers: Servers, role: str, user: str, user_dsn: str
) -> None:
    with pytest.raises(UsageError, match=f"user {user} may not create role {role}: .*run `CREATE ROLE") as raised:
        await ensure(user_dsn, role)
    async with databases.connected(servers.dsn) as connection:
        await connection.execute(str(raised.value).split("`")[1])
    await ensure(user_dsn, role)
    assert await acts_as(user_dsn, role) is None


async def test_readiness_names_a_missing_role_and_a_missing_grant(
    servers: Servers, role: str, user: str, user_dsn: str
) -> None:
    assert await acts_as(servers.dsn, role) == f'PostgreSQL: role "{role}" does not exist; run this service\'s migrate'
    await ensure(servers.dsn, role)
    assert "permission denied" in str(await acts_as(user_dsn, role))
