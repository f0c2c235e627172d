"""Connections to PostgreSQL: engines, sessions, the raw connection under a session, and which errors pass by."""

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
_PASSING = (OSError, TimeoutError, asyncpg.InterfaceError, NoConnectionError, DisconnectionError)
"""Errors without a SQLSTATE that say nothing but that there is no connection at the moment."""
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
"""Settings of every connection; they override the defaults of the server, the database and the user."""
COPY_FROM = 100
"""From this many rows on COPY is faster; below it one round trip counts for more."""


def create_engine(
    dsn: str,
    application_name: str,
    *,
    pool_size: int = 5,
    pool_timeout: float = 30,
    command_timeout: float | None = None,
    **server_settings: str,
) -> AsyncEngine:
    """An engine for a libpq-style URL (`sslmode`, `sslrootcert`, several hosts: asyncpg reads them itself).

    `pool_timeout`: seconds to wait for one of the pool's connections before sqlalchemy.exc.TimeoutError.
    `command_timeout`: seconds after which a statement without an answer fails, however silent the network.
    `server_settings` are PostgreSQL settings of each connection, e.g. lock_timeout="5s".
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
        hide_parameters=True,  # of a statement that fails, in its error's text
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    if tracing.tracer() is not None:
        database.watch(engine.sync_engine)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:
    """Have the pool connect anew where PostgreSQL hung up: that is known here; asking it takes three round trips."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def sessions(engine: AsyncEngine) -> Sessions:
    """The session factory of an engine; objects stay usable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def raw_connection(session: AsyncSession) -> asyncpg.Connection:
    """The asyncpg connection inside the session's transaction, for COPY and unnest.

    SQLAlchemy begins a transaction only with its first statement: without one, raw work would commit by itself.
    """
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    if not raw.is_in_transaction():
        await session.execute(text("SELECT 1"))
    assert raw.is_in_transaction(), "raw work outside the session's transaction"
    return raw


def once_committed(session: AsyncSession, act: Callable[[], None]) -> None:
    """Act when the session's transaction has committed, for counters: what is rolled back will come again."""
    event.listen(session.sync_session, "after_commit", lambda _: act(), once=True)


async def insert(session: AsyncSession, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows in their order, in the session's transaction: many by COPY, few in one round trip."""
    raw = await raw_connection(session)
    if len(rows) >= COPY_FROM:
        await raw.copy_records_to_table(table, records=rows, columns=columns)
    elif rows:
        numbers = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        await raw.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({numbers})", rows)  # noqa: S608 (our names)


@asynccontextmanager
async def transaction(factory: Sessions) -> AsyncIterator[AsyncSession]:
    """A session whose work commits at the end of the block, or not at all.

    A server that takes no writes may be one that another has replaced: the connection to it is closed, so that the
    next one is made anew.
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
    """One transaction on a database, for a command that then ends."""
    engine = create_engine(dsn, application_name, pool_size=1)
    try:
        async with transaction(sessions(engine)) as session:
            yield session
    finally:
        await engine.dispose()


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error from asyncpg, whether it came through SQLAlchemy or not."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) or getattr(getattr(cause, "__cause__", None), "sqlstate", None)


def verdict(error: BaseException) -> sqlstates.Verdict | None:
    """What follows from a database's error, after `sqlstates`; None when it is no database's."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return sqlstates.RETRY
    if isinstance(error, _PASSING) or _is_of_before_a_migration(error):
        return sqlstates.RETRY
    state = sqlstate(error)
    return None if state is None else sqlstates.verdict(state)


def is_transient(error: BaseException) -> bool:
    """Whether trying again later can help, the event being innocent."""
    return verdict(error) == sqlstates.RETRY


def blames_database(error: BaseException) -> bool:
    """Whether the database, its tables included, is the cause: a recurring task then backs off and tries again."""
    return verdict(error) in (sqlstates.RETRY, sqlstates.HALT)


def _is_of_before_a_migration(error: BaseException) -> bool:
    """Whether a statement was prepared for columns a migration has changed since. Next time it is prepared anew."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(getattr(cause, "__cause__", None) or cause, _OUTDATED)
