"""Connections to PostgreSQL: engines, sessions, the raw connection of a session, and which errors are transient."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from touchpoint.base import sqlstates, tracing
from touchpoint.db import spans as database

Sessions = async_sessionmaker[AsyncSession]

_OUTDATED = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
_NO_CONNECTION = (OSError, TimeoutError, asyncpg.InterfaceError, NoConnectionError, DisconnectionError)
"""Errors without a SQLSTATE that mean that there is no connection at the moment."""
PINNED = {
    "jit": "off",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "row_security": "on",
    "search_path": "public",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
}
"""Settings of every connection, which override the defaults of the server, the database and the user."""
COPY_FROM = 100
"""Number of rows from which COPY is faster than INSERT, although it takes more round trips."""


def create_engine(
    dsn: str,
    application_name: str,
    *,
    pool_size: int = 5,
    pool_timeout: float = 30,
    command_timeout: float | None = None,
    **server_settings: str,
) -> AsyncEngine:
    """An engine for a libpq-style URL; asyncpg parses its parameters (`sslmode`, `sslrootcert`, several hosts).

    `pool_timeout`: seconds to wait for a free connection of the pool, then sqlalchemy.exc.TimeoutError.
    `command_timeout`: seconds to wait for the answer to a statement, also if the network drops all packets.
    `server_settings`: PostgreSQL settings of each connection, such as lock_timeout="5s".
    """
    options = {"application_name": application_name, **PINNED, **server_settings}
    dsn = dsn.replace("postgresql+asyncpg://", "postgresql://", 1)
    kind = asyncpg.Connection if tracing.tracer() is None else database.Connection

    async def connect(*_: object, **__: object) -> asyncpg.Connection:
        return await asyncpg.connect(
            dsn, timeout=10, command_timeout=command_timeout, server_settings=options, connection_class=kind
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        hide_parameters=True,  # keeps the values of a failed statement out of the error message
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    if tracing.tracer() is not None:
        database.watch(engine.sync_engine)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """Make the pool replace a connection that PostgreSQL has closed. Unlike `pool_pre_ping` it costs no round trips."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def sessions(engine: AsyncEngine) -> Sessions:
    """The session factory of an engine; loaded objects stay usable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def raw_connection(session: AsyncSession) -> asyncpg.Connection:
    """The asyncpg connection of the session, inside its transaction, for COPY and unnest.

    SQLAlchemy begins the transaction with its first statement only. So this runs one if needed: otherwise each raw
    statement would commit by itself.
    """
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    if not raw.is_in_transaction():
        await session.execute(text("SELECT 1"))
    assert raw.is_in_transaction(), "raw work outside the session's transaction"
    return raw


def once_committed(session: AsyncSession, act: Callable[[], None]) -> None:
    """Call `act` once the session's transaction has committed: counters must not count batches that are retried."""
    event.listen(session.sync_session, "after_commit", lambda _: act(), once=True)


async def insert(session: AsyncSession, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows in order, in the session's transaction: by COPY from COPY_FROM rows on, else in one round trip."""
    raw = await raw_connection(session)
    if len(rows) >= COPY_FROM:
        await raw.copy_records_to_table(table, records=rows, columns=columns)
    elif rows:
        numbers = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        await raw.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({numbers})", rows)  # noqa: S608 (our names)


@asynccontextmanager
async def transaction(factory: Sessions) -> AsyncIterator[AsyncSession]:
    """A session whose transaction commits at the end of the block, or rolls back on an exception.

    If the server is read-only, its connection is closed: after a failover it may be the old primary, and only a new
    connection reaches the new one.
    """
    async with factory() as session, session.begin():
        try:
            yield session
        except Exception as error:
            if sqlstate(error) == sqlstates.READ_ONLY:
                await session.invalidate()
            raise


@asynccontextmanager
async def transaction_on(dsn: str, application_name: str) -> AsyncIterator[AsyncSession]:
    """A single transaction on a database, with an engine of its own, for commands."""
    engine = create_engine(dsn, application_name, pool_size=1)
    try:
        async with transaction(sessions(engine)) as session:
            yield session
    finally:
        await engine.dispose()


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an asyncpg error, wrapped by SQLAlchemy or not; None for other errors."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) or getattr(getattr(cause, "__cause__", None), "sqlstate", None)


def verdict(error: BaseException) -> sqlstates.Verdict | None:
    """The verdict of `sqlstates` on a database error; None for other errors."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return sqlstates.RETRY
    if isinstance(error, _NO_CONNECTION) or _is_outdated_statement(error):
        return sqlstates.RETRY
    state = sqlstate(error)
    return None if state is None else sqlstates.verdict(state)


def is_transient(error: BaseException) -> bool:
    """Whether a retry later can succeed, as the event is not the cause of the error."""
    return verdict(error) == sqlstates.RETRY


def blames_database(error: BaseException) -> bool:
    """Whether the database or its tables are the cause of the error: a recurring task then retries later."""
    return verdict(error) in (sqlstates.RETRY, sqlstates.HALT)


def _is_outdated_statement(error: BaseException) -> bool:
    """Whether a cached prepared statement is outdated by a migration; the next execution prepares it again."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(getattr(cause, "__cause__", None) or cause, _OUTDATED)
