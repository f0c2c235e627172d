"""Database access of an API, one tenant per transaction. Row-level security backs up the queries' own tenant filter.

The role of `roles.api_role` sees the rows of the transaction's tenant only, and no rows in a transaction without one.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from touchpoint.base.sqlstates import READ_ONLY
from touchpoint.db.engine import sessions, sqlstate

TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The form of a tenant's name, which is part of every partition key and can be written into a statement."""

_AS_TENANT = """
SELECT found.* FROM set_config('touchpoint.tenant', $1, true) AS caller (tenant), LATERAL ({query}) AS found
"""
"""Joining a single row keeps the order of the query. As the query refers to `caller`, PostgreSQL evaluates
`set_config` first, so that the policies see the tenant."""


class Tenants:
    """Transactions of one tenant each. `engine` connects as the API's role."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # AUTOCOMMIT keeps SQLAlchemy from sending BEGIN, which here shares a round trip with setting the tenant.
        self._sessions = sessions(engine.execution_options(isolation_level="AUTOCOMMIT"))

    @asynccontextmanager
    async def transaction(self, tenant: str, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """A session whose transaction commits at the end of the block, or rolls back on an exception.

        Raises ValueError if `tenant` is not a valid name. Costs two round trips in addition to the queries: BEGIN with
        the tenant, and COMMIT.
        """
        if not TENANT.fullmatch(tenant):
            raise ValueError("not the name of a tenant")
        access = "READ ONLY" if read_only else "READ WRITE"
        async with self._sessions.begin() as session:
            raw = (await (await session.connection()).get_raw_connection()).driver_connection
            assert raw is not None
            try:
                await raw.execute(f"BEGIN {access}; SET LOCAL touchpoint.tenant = '{tenant}'")
                yield session
                await session.flush()
                await raw.execute("COMMIT")
            except BaseException as error:
                await _roll_back(raw)
                if sqlstate(error) == READ_ONLY:  # after a failover only a new connection reaches the new primary
                    raw.terminate()
                raise

    async def fetch(self, tenant: str, query: str, *values: Any) -> list[asyncpg.Record]:
        """The rows of one SELECT, in its order, in one round trip: the statement is a transaction of its own.

        The query refers to its tenant as `caller.tenant` and to `values` as $2 and following. It needs a LIMIT or
        another clause that keeps PostgreSQL from merging it into the outer query, which could change its order. The
        connection is borrowed from SQLAlchemy's pool without a session, which would take six times as long.
        """
        borrowed = await self._engine.raw_connection()
        try:
            connection: Any = borrowed.driver_connection
            rows: list[asyncpg.Record] = await connection.fetch(_AS_TENANT.format(query=query), tenant, *values)
            return rows
        finally:
            borrowed.close()


async def _roll_back(raw: asyncpg.Connection) -> None:
    """Roll back; if that fails, close the connection, as it may still be inside the transaction."""
    try:
        await raw.execute("ROLLBACK")
    except BaseException as error:
        raw.terminate()
        if not isinstance(error, Exception):
            raise
