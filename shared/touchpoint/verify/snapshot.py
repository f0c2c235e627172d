"""A snapshot of a service's database, readable for as long as needed, with empty copies of its tables."""

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
"""work_mem for each sort and hash, and temp_buffers for the temporary tables; beyond that PostgreSQL uses its disk."""


@asynccontextmanager
async def snapshot(dsn: str, tables: Sequence[str]) -> AsyncIterator[tuple[AsyncConnection, asyncpg.Connection]]:
    """A read-only REPEATABLE READ transaction that can write to temporary tables; also as asyncpg connection.

    Each of `tables` exists twice: `pg_temp.feedback` is empty and has priority, `public.feedback` has the stored rows.
    """
    async with databases.connected(dsn):
        pass  # raises a one-line error if the database cannot be reached
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
            # Lock before the snapshot is taken: else a rebuild could swap in tables whose rows the snapshot cannot see.
            stored = ", ".join(f"public.{table}" for table in (*tables, "inbox"))
            await connection.execute(text(f"LOCK TABLE {stored} IN ACCESS SHARE MODE"))
            await connection.execute(text("SELECT 1"))
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            yield connection, raw
            await connection.rollback()
    finally:
        await engine.dispose()
