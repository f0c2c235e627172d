"""Flaws of a PostgreSQL server are refused or warned of in one line each."""

import asyncio
import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError
from touchpoint.db import databases, migrate
from touchpoint.db.engine import PINNED
from touchpoint.db.requirements import look, require
from touchpoint.local.postgres import SYSTEM_USER
from touchpoint.testing import eventually, ports

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
PACKAGE = "touchpoint.db"


@pytest.fixture
async def dsn(database) -> str:
    return await database(PACKAGE)


async def change(dsn: str, *statements: str) -> None:
    async with databases.connected(dsn) as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_the_tests_server_has_only_the_warning_about_fsync(dsn):
    assert [flaw.text.split(":")[0] for flaw in await look(dsn)] == ["fsync is off"]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("synchronous_commit = off", "synchronous_commit is off: a crash loses what the API has just confirmed"),
        ("transaction_timeout = '5min'", "transaction_timeout is 5min: replays, rebuilds"),
        ("track_activities = off", "track_activities is off: a frozen consumer"),
    ],
)
async def test_a_setting_that_risks_data_loss_or_stalls_is_a_warning(dsn, setting, text):
    await change(dsn, f'ALTER DATABASE "{urlsplit(dsn).path[1:]}" SET {setting}')
    assert any(flaw.startswith(text) for flaw in await require(dsn))


async def test_disabled_triggers_are_refused(dsn):
    await change(dsn, f'ALTER DATABASE "{urlsplit(dsn).path[1:]}" SET session_replication_role = replica')
    with pytest.raises(UsageError, match="session_replication_role is replica for postgres, so triggers"):
        await require(dsn)


async def test_an_encoding_other_than_utf_8_is_refused(servers):
    name = f"test_{uuid.uuid4().hex}"
    await change(
        servers.dsn, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    )
    try:
        with pytest.raises(UsageError, match=f"database {name} has the encoding SQL_ASCII: create it anew with"):
            await require(database_url.named(servers.dsn, name))
    finally:
        await databases.drop(servers.dsn, name)


async def test_too_few_connections_are_a_warning_that_names_both_numbers(dsn):
    await change(dsn, f'ALTER DATABASE "{urlsplit(dsn).path[1:]}" CONNECTION LIMIT 7')
    assert "the database's CONNECTION LIMIT leaves 7 connections; this process may need 13" in await require(
        dsn, connections=13
    )
    assert not any("CONNECTION LIMIT" in flaw for flaw in await require(dsn, connections=7))


async def test_a_role_of_the_api_that_sees_every_tenant_is_refused(dsn):
    role = f"role_{uuid.uuid4().hex}"
    await change(dsn, f"CREATE ROLE {role} BYPASSRLS")
    try:
        with pytest.raises(UsageError, match=f"role {role} may see every tenant's rows"):
            await require(dsn, role=role)
    finally:
        await change(dsn, f"DROP ROLE {role}")


async def test_defaults_of_a_database_do_not_change_our_settings(dsn):
    """The settings in PINNED override the defaults of server, database and user."""
    database = urlsplit(dsn).path[1:]
    settings = (
        "timezone = 'Asia/Kathmandu'",
        "statement_timeout = 1",
        "search_path = pg_catalog",
        "row_security = off",
    )
    await change(dsn, *(f'ALTER DATABASE "{database}" SET {setting}' for setting in settings))
    assert all("is off" in flaw.text for flaw in await look(dsn))
    await migrate.upgrade(PACKAGE, dsn)


@pytest.fixture
async def pooled(dsn: str, tmp_path: Path) -> AsyncIterator[object]:
    """A function that starts PgBouncer in front of the database with these settings and returns its URL."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    place, started = urlsplit(dsn), []

    async def start(**settings: str) -> str:
        port = ports.reserve(1)[0]
        folder = Path(parse_qs(place.query)["host"][0])
        server = f"host={folder} port={parse_qs(place.query)['port'][0]} user=postgres"
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            **settings,
        }
        lines = [
            "[databases]",
            f"* = {server}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
        file = tmp_path / f"pgbouncer-{port}.ini"
        file.write_text("\n".join(lines))
        user = ["-u", SYSTEM_USER] if os.getuid() == 0 else []
        started.append(await asyncio.create_subprocess_exec(PGBOUNCER, "-q", *user, file))
        url = f"postgresql://postgres@127.0.0.1:{port}{place.path}"

        async def answers() -> bool:
            try:
                await (await asyncpg.connect(url, timeout=5)).close()
            except OSError:
                return False
            return True

        await eventually(answers)
        return url

    yield start
    for process in started:
        process.terminate()
        await process.wait()


IGNORED = ",".join(PINNED)


@pytest.mark.parametrize(
    "settings",
    [
        {"pool_mode": "transaction"},
        {"pool_mode": "transaction", "ignore_startup_parameters": IGNORED},
        {"pool_mode": "session", "ignore_startup_parameters": IGNORED},
    ],
    ids=["transaction", "transaction, settings dropped", "session, settings dropped"],
)
async def test_a_pooler_is_refused_in_one_line(pooled, settings):
    with pytest.raises(UsageError, match="a connection pooler such as PgBouncer stands before PostgreSQL"):
        await require(await pooled(**settings))


async def test_a_pooler_in_transaction_mode_is_detected_by_its_shared_sessions(pooled, dsn, monkeypatch):
    monkeypatch.setattr(
        "touchpoint.db.requirements.PINNED", {"client_encoding": "UTF8"}
    )  # as if the pooler passed on all settings
    await require(dsn)
    url = await pooled(pool_mode="transaction", ignore_startup_parameters=IGNORED)
    with pytest.raises(UsageError, match="a connection pooler"):
        await require(url)


async def test_migrate_behind_a_pooler_prints_one_line(pooled, kafka):
    url = await pooled(pool_mode="transaction", ignore_startup_parameters=IGNORED)
    environment = {
        **os.environ, "DATABASE_URL": url, "PORT": "0", "ADMIN_PORT": "0",
        "INTERNAL_TOKEN_SECRETS": '["a-secret-of-thirty-two-characters-at-least"]',
    }  # fmt: skip
    command = [sys.executable, "-m", "feedback_svc", "migrate"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    _, output = await process.communicate()
    assert process.returncode == 2
    [line] = output.decode().splitlines()
    assert line.startswith(f"{url}: a connection pooler")


async def test_a_migration_of_a_read_only_database_is_refused_in_one_line(empty_database):
    await change(
        empty_database, f'ALTER DATABASE "{urlsplit(empty_database).path[1:]}" SET default_transaction_read_only = on'
    )
    with pytest.raises(UsageError, match=r"could not be migrated: ReadOnlySQLTransactionError: 25006"):
        await migrate.upgrade(PACKAGE, empty_database)
