"""PostgreSQL's advisory locks: work that one transaction at a time may do. Each ends with its transaction."""

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
    """Whether this transaction now has the lock of some work; False while another one has it.

    PostgreSQL takes it from a process that is frozen or cut off: it ends a transaction that is idle for too long.
    """
    return bool(await session.scalar(_TRY, {"key": zlib.crc32(f"touchpoint {work}".encode())}))


async def lock_partitions(session: AsyncSession, table: str, partitions: Collection[int]) -> None:
    """Wait until no other transaction works on `table` for events of these partitions, and keep others out.

    The live consumer and a replay may hold events of one customer at once: each would miss what the other is about to
    commit. The lock is that of the table as this transaction sees it, so a copy of it that is made anew is apart.
    """
    if partitions:
        await (await raw_connection(session)).fetchval(_PARTITIONS, table, sorted(partitions))
