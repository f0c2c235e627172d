"""Makes the gateways keep one account of what keys and tenants use, by adding it up in the database once a second.

The error: n gateways let in at most n times (burst + a second's worth + a batch) + rate × t within any t seconds, and
what is too much is paid back as debt, so that in the long run the rate holds. With the database away each gateway
limits alone: what they let in beyond a rate meanwhile is forgiven, what counts for a day is counted later.
"""

import asyncio
from datetime import date, timedelta

from gateway.keys import service as keys
from gateway.limits import repository
from gateway.limits.repository import Spent
from gateway.limits.service import Bucket, Day, Limits
from touchpoint.db.engine import Sessions, transaction

SHARE_SECONDS = 1
GIVE_UP_SECONDS = 2
_EPOCH = date(1970, 1, 1).toordinal()


class Sharing:
    """Exchanges what one process has let in with the others."""

    def __init__(self, limits: Limits, sessions: Sessions) -> None:
        self._limits = limits
        self._sessions = sessions

    async def share(self) -> None:
        """Exchange now; when that fails this process goes on with what it knows."""
        try:
            await self._share_rates()
            await self._share_days()
        finally:
            self._limits.forget_idle()

    async def _share_rates(self) -> None:
        now = self._limits.clock()
        used = dict[tuple[str, str], tuple[Bucket, Spent]]()
        for meter in (self._limits.events, self._limits.requests):
            for key, bucket in meter.buckets.items():
                if bucket.unshared:
                    spent, age = timedelta(seconds=bucket.unshared / bucket.rate), timedelta(seconds=now - bucket.since)
                    used[key, meter.name] = bucket, Spent(key, meter.name, spent, age)
                    bucket.unshared = 0
        if not used:
            return
        async with asyncio.timeout(GIVE_UP_SECONDS), transaction(self._sessions) as session:
            ahead = await repository.share_rates(session, [spent for _, spent in used.values()])
        for place, (bucket, _) in used.items():
            # Never less than what this process has seen itself.
            shared = now + ahead[place].total_seconds() + bucket.unshared / bucket.rate
            bucket.tat = max(bucket.tat, shared)

    async def _share_days(self) -> None:
        sent = dict[str, tuple[Day, int]]()
        for tenant, day in self._limits.quotas.days.items():
            if day.unshared:
                sent[tenant] = day, day.unshared
                day.shared, day.unshared = day.shared + day.unshared, 0
        if not sent:
            return
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS), transaction(self._sessions) as session:
                sums = await keys.share_days(
                    session,
                    {tenant: (date.fromordinal(_EPOCH + day.number), count) for tenant, (day, count) in sent.items()},
                )
        except BaseException:
            for day, count in sent.values():
                day.shared, day.unshared = day.shared - count, day.unshared + count
            raise
        for tenant, (day, _) in sent.items():
            newest, events = sums[tenant]
            if newest.toordinal() - _EPOCH == day.number:
                day.shared = events
