"""One transaction at a time for the events of a partition, where a handler reads before it writes."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import raw_connection

_ALONE = """
SELECT count(pg_advisory_xact_lock($1::text::regclass::oid::int8::bit(32)::int, partition))
  FROM (SELECT * FROM unnest($2::int[]) AS partition ORDER BY partition) AS partitions
"""


async def alone(session: AsyncSession, table: str, partitions: Collection[int]) -> None:
    """Wait until no other transaction works on `table` for events of these partitions, and keep others out.

    The live consumer and a replay may hold events of one customer at once: each would miss what the other is about to
    commit. The lock is that of the table as this transaction finds it, so a copy of it that is made anew is apart.
    """
    if partitions:
        await (await raw_connection(session)).fetchval(_ALONE, table, sorted(partitions))
