"""Migrations while other migrations and processes of the previous version run."""

import asyncio
import sys
import textwrap
import uuid

import asyncpg
import pytest

from touchpoint.base.errors import UsageError
from touchpoint.db import migrate
from touchpoint.db.engine import create_engine
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
    """A function that writes a package with these revisions (their source) and returns its name."""
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
def dsn(empty_database):
    return empty_database


@pytest.fixture
async def old_code(dsn):
    """A connection of the previous version, which uses the database during a migration."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_concurrent_upgrades_migrate_once(package, dsn, old_code):
    name = package(FIRST, SECOND)
    await asyncio.gather(*(migrate.upgrade(name, dsn) for _ in range(4)))
    assert await old_code.fetch("SELECT id, name FROM things") == []


async def test_a_migration_that_waits_for_a_lock_does_not_block_other_queries(package, dsn, old_code):
    await migrate.upgrade(package(FIRST), dsn)
    transaction = old_code.transaction()
    await transaction.start()
    await old_code.execute("SELECT * FROM things")
    migrating = asyncio.create_task(migrate.upgrade(package(FIRST, SECOND), dsn))
    reader = await asyncpg.connect(dsn)
    await eventually(lambda: reader.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    async with asyncio.timeout(migrate.PAUSE_SECONDS + 10):
        await reader.fetch("SELECT * FROM things")
    assert not migrating.done()
    await transaction.rollback()
    await migrating
    assert await reader.fetch("SELECT name FROM things") == []
    await reader.close()


async def test_a_lock_that_is_never_released_fails_and_rolls_back_the_whole_migration(
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


async def looks(number):
    for _ in range(number):
        yield


@pytest.fixture
async def engine(dsn):
    """The engine with which a process checks whether the migration is done."""
    engine = create_engine(dsn, "test")
    yield engine
    await engine.dispose()


async def test_a_process_waits_until_the_database_has_its_own_revision(package, dsn, engine):
    old = package(FIRST)
    assert not await migrate.done(old, engine, looks(2))
    await migrate.upgrade(old, dsn)
    assert await migrate.done(old, engine, looks(1))
    new = package(FIRST, SECOND)
    assert not await migrate.done(new, engine, looks(2))
    await migrate.upgrade(new, dsn)
    assert await migrate.done(new, engine, looks(1))


async def test_a_process_works_on_a_database_with_a_newer_revision(package, dsn, old_code, engine):
    name = package(FIRST, SECOND)
    await migrate.upgrade(name, dsn)
    await old_code.execute("UPDATE alembic_version SET version_num = '3'; UPDATE engine_version SET version_num = '4'")
    assert await migrate.done(name, engine, looks(1))


@pytest.mark.parametrize("table", ["alembic_version", "engine_version"])
async def test_a_migration_of_a_database_with_an_unknown_revision_is_refused_in_one_line(package, dsn, old_code, table):
    await old_code.execute(f"CREATE TABLE {table} (version_num text); INSERT INTO {table} VALUES ('b7d41c0e5a92')")
    with pytest.raises(UsageError, match=r"revision b7d41c0e5a92, which this version .* `touchpoint up --fresh`"):
        await migrate.upgrade(package(FIRST), dsn)
    assert await old_code.fetchval("SELECT to_regclass('things')") is None


async def test_a_role_without_the_right_to_read_revisions_does_not_wait(package, dsn, old_code):
    role = f"role_{uuid.uuid4().hex}"
    await migrate.upgrade(package(FIRST), dsn)
    await old_code.execute(f"CREATE ROLE {role}")
    engine = create_engine(dsn, "test", role=role)
    try:
        assert await migrate.done(package(FIRST), engine, looks(1))
    finally:
        await engine.dispose()
        await old_code.execute(f"DROP ROLE {role}")


async def test_a_process_waits_for_a_database_that_does_not_answer(package):
    engine = create_engine("postgresql://nobody@127.0.0.1:1/nothing", "test")
    assert not await migrate.done(package(FIRST), engine, looks(2))
