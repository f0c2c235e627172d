"""The database as an API has it: one tenant at a time. Row-level security is the second wall, behind the queries' own.

The role of `roles.api_role` sees the rows whose tenant is the transaction's, and none where a transaction has none.
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
"""The name of a tenant: part of every partition key, and safe in a statement."""

_AS_TENANT = """
SELECT found.* FROM set_config('touchpoint.tenant', $1, true) AS caller (tenant), LATERAL ({query}) AS found
"""
"""One row beside the query leaves its order. Policies see the tenant because what names `caller` comes after it."""


class Tenants:
    """Transactions of one tenant each; there are no others. `engine` connects as the API's role."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLAlchemy must not begin: its BEGIN is a round trip of its own, and so would be the tenant.
        self._sessions = sessions(engine.execution_options(isolation_level="AUTOCOMMIT"))

    @asynccontextmanager
    async def transaction(self, tenant: str, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """A session whose work commits at the end of the block, or not at all; raises ValueError on no tenant's name.

        Three round trips with one query: its beginning with the tenant, the query, its end.
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
                if sqlstate(error) == READ_ONLY:  # another server may have taken its place: connect anew
                    raw.terminate()
                raise

    async def fetch(self, tenant: str, query: str, *values: Any) -> list[asyncpg.Record]:
        """The rows of one SELECT, in its order and one round trip: the statement is a transaction of its own.

        The query names its tenant as `caller.tenant` and its values from $2 on. It has a LIMIT, or is otherwise more
        than rows that PostgreSQL could join in any order. SQLAlchemy lends the connection and does nothing else: its
        session takes six times as long.
        """
        lent = await self._engine.raw_connection()
        try:
            connection: Any = lent.driver_connection
            found: list[asyncpg.Record] = await connection.fetch(_AS_TENANT.format(query=query), tenant, *values)
            return found
        finally:
            lent.close()


async def _roll_back(raw: asyncpg.Connection) -> None:
    """However the transaction failed: a connection that may still be inside it is not used again."""
    try:
        await raw.execute("ROLLBACK")
    except BaseException as error:
        raw.terminate()
        if not isinstance(error, Exception):
            raise
