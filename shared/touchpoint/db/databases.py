"""Databases of a PostgreSQL server: naming them in a URL, creating and dropping them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from touchpoint.base.errors import UnreachableError, UsageError
from touchpoint.db.engine import PINNED, sqlstate

FORM = (
    "postgresql://user:password@host:port/database, with / ? # @ [ ] and % in the password percent-encoded (a slash "
    "is %2F)"
)
"""What a URL must look like."""

CONNECT_SECONDS = 10
POOLER = (
    "a connection pooler such as PgBouncer stands before PostgreSQL. Name the server itself: Touchpoint keeps pools of "
    "its own, and needs sessions that keep their settings, role and locks"
)
_PROTOCOL_VIOLATION = "08P01"
"""PgBouncer's answer to settings that it does not pass on."""

_HOST = r"(?:[\w.-]*|\[[\da-fA-F:.]+\])(?::\d+)?"
_URL = re.compile(
    rf"(?P<scheme>postgres(?:ql)?(?:\+asyncpg)?://)(?:(?P<user>[^:/?#@\[\]]*)(?::[^/?#@\[\]]*)?@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?)(?:\?(?P<query>[^#@]*))?"
)
_SHOWN = ("host", "port")


def is_url(dsn: str) -> bool:
    """Whether this has the form of a database's URL; what has not may be cut in the middle of a password."""
    return _URL.fullmatch(dsn) is not None


def named(dsn: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


def without_password(dsn: str) -> str:
    """The URL as it may be shown."""
    found = _URL.fullmatch(dsn)
    if found is None:
        return "a URL that cannot be read"
    user = f"{found['user']}@" if found["user"] is not None else ""
    shown = "&".join(f"{name}={value}" for name, value in parse_qsl(found["query"] or "") if name in _SHOWN)
    return f"{found['scheme']}{user}{found['place']}" + (f"?{shown}" if shown else "")


async def create(dsn: str, database: str, *, template: str = "template1") -> str:
    """Create a database if it is missing, as a copy of `template`, and return its URL.

    Raises UsageError when the server cannot be reached or the user has no right to create databases.
    """
    async with connected(dsn) as connection:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            try:
                await connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
            except asyncpg.DuplicateDatabaseError:
                pass  # another one was faster
            except asyncpg.InsufficientPrivilegeError:
                raise UsageError(
                    f"PostgreSQL user {await connection.fetchval('SELECT current_user')} may not create database "
                    f"{database}: grant it CREATEDB, or create the database first and make it the owner"
                ) from None
    return named(dsn, database)


async def drop(dsn: str, database: str) -> None:
    """Drop a database, closing whatever is connected to it; no error when it does not exist."""
    async with connected(dsn) as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it does not answer within {CONNECT_SECONDS} s: does it hang, or does a firewall drop the packets?"
    if isinstance(error, asyncpg.CannotConnectNowError | asyncpg.TooManyConnectionsError):
        return f"{error}"
    return f"{error or type(error).__name__} (is DATABASE_URL right?)"


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own; raises UsageError when there is none to be had."""
    if not is_url(dsn):
        raise UsageError(f"the database's URL (DATABASE_URL) cannot be read: it must be {FORM}")
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=PINNED, statement_cache_size=0)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        if sqlstate(error) == _PROTOCOL_VIOLATION:
            raise UsageError(f"{without_password(dsn)}: {POOLER}") from None
        raise UnreachableError(f"PostgreSQL cannot be used at {without_password(dsn)}: {_why(error)}") from None
    try:
        yield connection
    finally:
        await connection.close()
