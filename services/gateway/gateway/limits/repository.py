"""The usage of rates in PostgreSQL."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import raw_connection

# The column `spent` exists because ON CONFLICT can refer only to the old and the new row.
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
"""A row with `shared_at` in the future was written while the database's clock was ahead: its `tat` is moved back."""


class Spent(NamedTuple):
    """What a key used of a rate: `spent` is usage ÷ rate, `age` is how long ago the first of it was used."""

    prefix: str
    policy: str
    spent: timedelta
    age: timedelta


async def share_rates(session: AsyncSession, used: Sequence[Spent]) -> dict[tuple[str, str], timedelta]:
    """Add usage to that of all gateways; returns how far each theoretical arrival time is ahead of now."""
    raw = await raw_connection(session)
    rows = await raw.fetch(SHARE_RATES, *map(list, zip(*used, strict=True)))
    return {(row["prefix"], row["policy"]): row["ahead"] for row in rows}
