"""Compare PostgreSQL's clock, which timers use, with this machine's: if they differ, one of the two is wrong."""

from time import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import TransientError
from touchpoint.db.engine import Sessions, transaction

AGREE_SECONDS = 60
"""Difference in seconds that is still accepted. Machines synchronized by NTP differ by milliseconds."""


class ClocksDifferError(TransientError):
    """The clocks differ, so timers must wait: an action taken too early cannot be undone."""


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
