"""PostgreSQL advisory locks for work that one transaction at a time may do. A lock ends with its transaction."""

import zlib
from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import raw_connection

_TRY = text("SELECT pg_try_advisory_xact_lock(:key)")
_PARTITIONS = """
SELECT count(pg_advisory_xact_lock($1::text::regclass::oid::int8::bit(32)::int, partition))
  FROM (SELECT * FROM unnest($2::int[]) AS partition ORDER BY partition) AS partitions
"""


async def acquire(session: AsyncSession, work: str) -> bool:
    """Try to take the lock for `work`; returns False if another transaction holds it.

    A frozen or disconnected process loses the lock, as PostgreSQL ends transactions that are idle for too long.
    """
    return bool(await session.scalar(_TRY, {"key": zlib.crc32(f"touchpoint {work}".encode())}))


async def lock_partitions(session: AsyncSession, table: str, partitions: Collection[int]) -> None:
    """Take a lock per partition on `table`, waiting for transactions that hold one.

    The live consumer and a replay may handle events of one customer at the same time: without the lock neither would
    see the other's uncommitted rows. The key is the oid that `table` has in this transaction's search path, so a
    rebuild's copy of the table has locks of its own.
    """
    if partitions:
        await (await raw_connection(session)).fetchval(_PARTITIONS, table, sorted(partitions))
