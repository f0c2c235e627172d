"""Migrations while others migrate and while the old code still runs."""

import asyncio
import sys
import textwrap
import uuid

import asyncpg
import pytest

from touchpoint.db import databases, migrate
from touchpoint.errors import UsageError
from touchpoint.testing import eventually

ENV = "from touchpoint.db.migrate import run\nrun()\n"
FIRST = """
    from alembic import op
    revision, down_revision = "1", None
    def upgrade():
        op.execute("CREATE TABLE things (id int)")
"""
SECOND = """
    from alembic import op
    revision, down_revision = "2", "1"
    def upgrade():
        op.execute("CREATE TABLE others (id int)")
        op.execute("ALTER TABLE things ADD COLUMN name text")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with migrations; called with the source of its revisions."""
    name = f"package_{uuid.uuid4().hex}"
    versions = tmp_path / name / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (versions.parent / "env.py").write_text(ENV)
    monkeypatch.syspath_prepend(tmp_path)

    def write(*revisions):
        for number, source in enumerate(revisions):
            (versions / f"{number}.py").write_text(textwrap.dedent(source))
        return name

    yield write
    sys.modules.pop(name, None)


@pytest.fixture
async def dsn(servers):
    name = f"test_{uuid.uuid4().hex}"
    yield await databases.create(servers.dsn, name)
    await databases.drop(servers.dsn, name)


@pytest.fixture
async def old_code(dsn):
    """A connection that works on the database meanwhile."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_several_started_at_once_migrate_once(package, dsn, old_code):
    name = package(FIRST, SECOND)
    await asyncio.gather(*(migrate.upgrade(name, dsn) for _ in range(4)))
    assert await old_code.fetch("SELECT id, name FROM things") == []


async def test_a_migration_waits_for_a_transaction_of_the_old_code_and_lets_others_pass(package, dsn, old_code):
    await migrate.upgrade(package(FIRST), dsn)
    transaction = old_code.transaction()
    await transaction.start()
    await old_code.execute("SELECT * FROM things")
    migrating = asyncio.create_task(migrate.upgrade(package(FIRST, SECOND), dsn))
    reader = await asyncpg.connect(dsn)
    await eventually(lambda: reader.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    await asyncio.wait_for(reader.fetch("SELECT * FROM things"), migrate.PAUSE_SECONDS + 10)
    assert not migrating.done()
    await transaction.rollback()
    await migrating
    assert await reader.fetch("SELECT name FROM things") == []
    await reader.close()


async def test_a_lock_that_is_never_released_is_said_in_one_line_and_nothing_is_half_done(
    package, dsn, old_code, monkeypatch
):
    monkeypatch.setattr(migrate, "ATTEMPTS", 1)
    monkeypatch.setattr(migrate, "STATEMENT_LOCK_TIMEOUT", "100ms")
    await migrate.upgrade(package(FIRST), dsn)
    async with old_code.transaction():
        await old_code.execute("SELECT * FROM things")
        with pytest.raises(UsageError, match="stayed locked"):
            await migrate.upgrade(package(FIRST, SECOND), dsn)
    assert await old_code.fetchval("SELECT to_regclass('others')") is None
