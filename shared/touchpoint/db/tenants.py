"""The database as an API has it: one tenant at a time. Row-level security is the second wall, behind the queries' own.

The role of `roles.api_role` sees the rows whose tenant is the transaction's, and none where a transaction has none.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from touchpoint.db.engine import sessions

TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The name of a tenant: part of every partition key, and safe in a statement."""


class Tenants:
    """Transactions of one tenant each; there are no others. `engine` connects as the API's role."""

    def __init__(self, engine: AsyncEngine) -> None:
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
            except BaseException:
                await _roll_back(raw)
                raise


async def _roll_back(raw: asyncpg.Connection) -> None:
    """However the transaction failed: a connection that may still be inside it is not used again."""
    try:
        await raw.execute("ROLLBACK")
    except BaseException as error:
        raw.terminate()
        if not isinstance(error, Exception):
            raise
