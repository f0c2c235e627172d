"""Adds up in the database, once a second, what keys and tenants used at all gateways.

The error: n gateways admit at most n × (burst + a second's worth + a batch) + rate × t within any t seconds. The
excess becomes debt, so that the rate holds in the long run. While the database is unreachable each gateway limits by
itself: what they admit together above a rate is not charged later, but events still count for the day.
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
    """Exchanges usage between this process and the others."""

    def __init__(self, limits: Limits, sessions: Sessions) -> None:
        self._limits = limits
        self._sessions = sessions

    async def share(self) -> None:
        """Exchange now. If that fails, this process continues with its own counts."""
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
            # Never less than this process counted itself.
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
