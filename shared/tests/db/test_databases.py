"""Creating a database is idempotent, and error messages name the remedy."""

import socket
import uuid
from collections.abc import AsyncIterator

import pytest

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError
from touchpoint.db import databases
from touchpoint.testing.servers import Servers


@pytest.fixture
async def name(servers: Servers) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    yield name
    await databases.drop(servers.dsn, name)


async def test_creating_an_existing_database_changes_nothing(servers: Servers, name: str) -> None:
    assert await databases.create(servers.dsn, name) == await databases.create(servers.dsn, name)
    async with databases.connected(database_url.named(servers.dsn, name)) as connection:
        assert await connection.fetchval("SELECT current_database()") == name


async def test_the_error_for_a_user_who_may_not_create_databases_names_the_grant(
    user: str, user_dsn: str, name: str
) -> None:
    with pytest.raises(UsageError, match=f"PostgreSQL user {user} may not create database {name}: grant it CREATEDB"):
        await databases.create(user_dsn, name)


async def test_an_existing_database_needs_no_right_to_create_one(servers: Servers, user_dsn: str, name: str) -> None:
    await databases.create(servers.dsn, name)
    assert await databases.create(user_dsn, name) == database_url.named(user_dsn, name)


async def test_the_error_about_an_unreachable_server_does_not_contain_the_password() -> None:
    with pytest.raises(UsageError, match=r"cannot be used at postgresql://me@127\.0\.0\.1:1/db: ") as raised:
        await databases.create("postgresql://me:secret@127.0.0.1:1/db", "feedback")
    assert "secret" not in str(raised.value)


async def test_the_error_about_a_hanging_server_does_not_blame_its_address(monkeypatch) -> None:
    monkeypatch.setattr(databases, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db"
        with pytest.raises(UsageError, match=r"it does not answer within 0\.3 s: does it hang") as raised:
            await databases.create(dsn, "feedback")
    assert "DATABASE_URL" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:pass#word@127.0.0.1:1/db",
        "postgresql://me:pass/word@127.0.0.1:1/db",
        "postgresql://me:pass?word@127.0.0.1:1/db",
        "postgresql://me:pass@word@127.0.0.1:1/db",
        "postgresql://me:[password@127.0.0.1:1/db",
        "me:password@127.0.0.1:1/db",
        "host=127.0.0.1 password=password",
        "",
    ],
)
async def test_a_url_with_an_unencoded_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="percent-encoded") as raised:
        await databases.create(url, "feedback")
    assert "pass" not in str(raised.value).replace("password", "") + database_url.without_password(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db.example:5432/feedback", "postgresql://me@db.example:5432/feedback"),
        ("postgresql://me:se%23cr:et@db/feedback?sslmode=require", "postgresql://me@db/feedback"),
        ("postgresql://db/feedback?user=me&password=secret", "postgresql://db/feedback"),
        ("postgresql://me:secret@/feedback?host=/run/postgresql", "postgresql://me@/feedback?host=/run/postgresql"),
        ("postgresql://me:secret@[::1]:5432,other:5433/x", "postgresql://me@[::1]:5432,other:5433/x"),
        ("postgresql:///feedback", "postgresql:///feedback"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert database_url.without_password(url) == shown
