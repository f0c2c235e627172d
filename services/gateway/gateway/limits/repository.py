"""What was used of rates, in and out of PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import raw_connection

# `spent` is there because ON CONFLICT sees the old row and the new one, and nothing else.
SHARE_RATES = """
INSERT INTO rates (prefix, policy, tat, spent, shared_at)
SELECT prefix, policy, now() - age + spent, spent, now()
  FROM unnest($1::text[], $2::text[], $3::interval[], $4::interval[]) AS used (prefix, policy, spent, age)
 ORDER BY prefix, policy
ON CONFLICT (prefix, policy) DO UPDATE SET
    tat = greatest(rates.tat - greatest(rates.shared_at - now(), interval '0') + excluded.spent, excluded.tat),
    shared_at = excluded.shared_at
RETURNING prefix, policy, tat - now() AS ahead
"""
"""A row shared later than now was written while the database's clock was ahead: what it tells of is moved back."""


class Spent(NamedTuple):
    """What a key has taken of a rate, as the time that pays for it, and how long ago it took the first of it."""

    prefix: str
    policy: str
    spent: timedelta
    age: timedelta


async def share_rates(session: AsyncSession, used: Sequence[Spent]) -> dict[tuple[str, str], timedelta]:
    """Add what was used to what all gateways used; how far each theoretical arrival time now lies ahead."""
    raw = await raw_connection(session)
    rows = await raw.fetch(SHARE_RATES, *map(list, zip(*used, strict=True)))
    return {(row["prefix"], row["policy"]): row["ahead"] for row in rows}
