"""Connect to, create and drop databases of a PostgreSQL server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from touchpoint.base import database_url
from touchpoint.base.errors import UnreachableError, UsageError
from touchpoint.db.engine import PINNED, sqlstate

CONNECT_SECONDS = 10
POOLER = (
    "a connection pooler such as PgBouncer stands before PostgreSQL. Name the server itself: Touchpoint keeps pools of "
    "its own, and needs sessions that keep their settings, role and locks"
)
_PROTOCOL_VIOLATION = "08P01"
"""SQLSTATE by which PgBouncer refuses connection settings that it does not support."""


async def create(dsn: str, database: str, *, template: str = "template1") -> str:
    """Create a database if it is missing, as a copy of `template`, and return its URL.

    Raises UsageError when the server cannot be reached or the user has no right to create databases.
    """
    async with connected(dsn) as connection:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            try:
                await connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
            except asyncpg.DuplicateDatabaseError:
                pass  # another process created it in the meantime
            except asyncpg.InsufficientPrivilegeError:
                raise UsageError(
                    f"PostgreSQL user {await connection.fetchval('SELECT current_user')} may not create database "
                    f"{database}: grant it CREATEDB, or create the database first and make it the owner"
                ) from None
    return database_url.named(dsn, database)


async def drop(dsn: str, database: str) -> None:
    """Drop a database if it exists, closing all connections to it."""
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
    """Open a connection outside any pool. Raises UsageError if the URL is malformed or the server unusable."""
    if not database_url.is_url(dsn):
        raise UsageError(f"the database's URL (DATABASE_URL) cannot be read: it must be {database_url.FORM}")
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=PINNED, statement_cache_size=0)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        if sqlstate(error) == _PROTOCOL_VIOLATION:
            raise UsageError(f"{database_url.without_password(dsn)}: {POOLER}") from None
        raise UnreachableError(
            f"PostgreSQL cannot be used at {database_url.without_password(dsn)}: {_why(error)}"
        ) from None
    try:
        yield connection
    finally:
        await connection.close()
