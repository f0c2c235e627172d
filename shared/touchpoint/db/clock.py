"""PostgreSQL's clock, by which timers act, compared with this machine's: if they differ, one of them is wrong."""

from time import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import TransientError
from touchpoint.db.engine import Sessions, transaction

AGREE_SECONDS = 60
"""Machines that keep time by NTP differ by milliseconds."""


class ClocksDifferError(TransientError):
    """What is done by the clock has to wait: done too early it cannot be taken back."""


async def require_agreement(session: AsyncSession) -> None:
    """Raise ClocksDifferError when PostgreSQL's clock and this machine's are more than AGREE_SECONDS apart."""
    before = time()
    there = (await session.execute(text("SELECT extract(epoch FROM clock_timestamp())::float"))).scalar_one()
    after = time()
    ahead = there - (before + after) / 2
    if abs(ahead) - (after - before) / 2 > AGREE_SECONDS:
        which = "ahead of" if ahead > 0 else "behind"
        raise ClocksDifferError(f"PostgreSQL's clock is {abs(ahead):,.0f} s {which} this machine's: one is wrong")


async def compare(factory: Sessions) -> None:
    """Raise ClocksDifferError as `require_agreement` does, in a transaction of its own."""
    async with transaction(factory) as session:
        await require_agreement(session)
