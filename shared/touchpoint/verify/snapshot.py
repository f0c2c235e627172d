"""One moment of a service's database, to be read as long as it takes, and empty copies of its tables beside it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from touchpoint.db import databases
from touchpoint.db.engine import create_engine

SCRATCH = (
    'CREATE TEMP TABLE verify_applied (event_id uuid, topic text, partition int, "offset" bigint, key bytea, age int)',
    "CREATE TEMP TABLE verify_again (event_id uuid)",
    "CREATE TEMP TABLE verify_lost (topic text, partition int, first bigint, until bigint)",
    "CREATE TEMP TABLE verify_promised (topic text, what text)",
    "CREATE TEMP TABLE verify_published (topic text, what text)",
)

MEMORY = "64MB"
"""For each sort, hash and the temporary tables in PostgreSQL; what needs more goes to its disk."""


@asynccontextmanager
async def snapshot(dsn: str, tables: Sequence[str]) -> AsyncIterator[tuple[AsyncConnection, asyncpg.Connection]]:
    """A transaction that sees one moment throughout and can write to temporary tables only; as asyncpg has it, too.

    `tables` exist in it twice: `pg_temp.feedback` is empty and found first, `public.feedback` holds what is stored.
    """
    async with databases.connected(dsn):
        pass  # one line when it cannot be reached
    engine = create_engine(
        dsn, "touchpoint verify", pool_size=1, idle_in_transaction_session_timeout="0",
        work_mem=MEMORY, temp_buffers=MEMORY,
    )  # fmt: skip
    try:
        async with engine.connect() as connection:
            for table in tables:
                await connection.execute(text(f"CREATE TEMP TABLE {table} (LIKE public.{table} INCLUDING ALL)"))
            for statement in SCRATCH:
                await connection.execute(text(statement))
            await connection.commit()
            # PostgreSQL itself now refuses every write that is not to a temporary table.
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            # Before the moment is chosen: a rebuild would else put tables in their place whose rows this cannot see.
            stored = ", ".join(f"public.{table}" for table in (*tables, "inbox"))
            await connection.execute(text(f"LOCK TABLE {stored} IN ACCESS SHARE MODE"))
            await connection.execute(text("SELECT 1"))
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            yield connection, raw
            await connection.rollback()
    finally:
        await engine.dispose()
