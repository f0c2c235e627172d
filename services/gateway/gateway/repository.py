"""API keys, what was used of their limits, and answers to be given again, in and out of PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.models import ApiKey, Quota
from touchpoint.db.engine import raw_connection

# Sorted, so that two gateways touching the same keys cannot lock each other out.
TOUCH = """
UPDATE api_keys SET last_used_at = used.at
  FROM (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (prefix, at)) AS used
 WHERE api_keys.prefix = used.prefix AND (last_used_at IS NULL OR last_used_at < used.at)
"""


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
SHARE_DAYS = """
INSERT INTO quotas (tenant_id, day, events)
SELECT tenant_id, day, events FROM unnest($1::text[], $2::date[], $3::bigint[]) AS sent (tenant_id, day, events)
 ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET
    events = CASE WHEN quotas.day > excluded.day THEN quotas.events
                  WHEN quotas.day = excluded.day THEN quotas.events + excluded.events
                  ELSE excluded.events END,
    day = greatest(quotas.day, excluded.day)
RETURNING tenant_id, day, events
"""


CLAIM = """
INSERT INTO idempotency_keys AS kept (tenant_id, key, claim, fingerprint, leased_until, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval, now() + $6::interval)
ON CONFLICT (tenant_id, key) DO UPDATE SET
    claim = excluded.claim, fingerprint = excluded.fingerprint, leased_until = excluded.leased_until,
    expires_at = excluded.expires_at, status = NULL, content_type = '', body = ''
 WHERE kept.expires_at <= now()
    OR (kept.status IS NULL AND kept.leased_until <= now() AND kept.fingerprint = excluded.fingerprint)
RETURNING true
"""
KEPT = "SELECT fingerprint, status, content_type, body FROM idempotency_keys WHERE tenant_id = $1 AND key = $2"
KEEP = """
UPDATE idempotency_keys SET status = $4, content_type = $5, body = $6
 WHERE tenant_id = $1 AND key = $2 AND claim = $3
"""
RETRY = "UPDATE idempotency_keys SET leased_until = now() WHERE tenant_id = $1 AND key = $2 AND claim = $3"
RELEASE = "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND claim = $3"


class Spent(NamedTuple):
    """What a key has taken of a rate, as the time that pays for it, and how long ago it took the first of it."""

    prefix: str
    policy: str
    spent: timedelta
    age: timedelta


class Claim(NamedTuple):
    """A tenant's Idempotency-Key, and the request (`id`) that may write its answer."""

    tenant: str
    key: str
    id: UUID


class Kept(NamedTuple):
    """What an Idempotency-Key was used for and, once that was done, its answer."""

    fingerprint: bytes
    status: int | None
    content_type: str
    body: bytes


async def find(session: AsyncSession, prefix: str, *, lock: bool = False) -> ApiKey | None:
    """The key with this prefix; `lock` keeps it from changing until the transaction ends."""
    return await session.get(ApiKey, prefix, with_for_update=lock)


async def find_all(session: AsyncSession, prefixes: Sequence[str]) -> Sequence[tuple[ApiKey, int | None]]:
    """The keys there are among these prefixes, each with its tenant's own quota."""
    wanted = select(ApiKey, Quota.events_per_day).outerjoin(Quota, Quota.tenant_id == ApiKey.tenant_id)
    rows = await session.execute(wanted.where(ApiKey.prefix.in_(prefixes)))
    return [(key, quota) for key, quota in rows]


async def list_keys(session: AsyncSession, tenant: str | None = None) -> Sequence[ApiKey]:
    """All keys, or those of one tenant, oldest first."""
    wanted = select(ApiKey).order_by(ApiKey.created_at, ApiKey.prefix)
    if tenant is not None:
        wanted = wanted.where(ApiKey.tenant_id == tenant)
    return (await session.scalars(wanted)).all()


async def touch(session: AsyncSession, used: Mapping[str, datetime]) -> None:
    """Record when keys were last used."""
    raw = await raw_connection(session)
    prefixes = sorted(used)
    await raw.execute(TOUCH, prefixes, [used[prefix] for prefix in prefixes])


async def share_rates(session: AsyncSession, used: Sequence[Spent]) -> dict[tuple[str, str], timedelta]:
    """Add what was used to what all gateways used; how far each theoretical arrival time now lies ahead."""
    raw = await raw_connection(session)
    rows = await raw.fetch(SHARE_RATES, *map(list, zip(*used, strict=True)))
    return {(row["prefix"], row["policy"]): row["ahead"] for row in rows}


async def share_days(session: AsyncSession, sent: Mapping[str, tuple[date, int]]) -> dict[str, tuple[date, int]]:
    """Add what tenants have sent on a day to what all gateways took; the newest day's sum."""
    raw = await raw_connection(session)
    days, counts = map(list, zip(*sent.values(), strict=True))
    rows = await raw.fetch(SHARE_DAYS, list(sent), days, counts)
    return {row["tenant_id"]: (row["day"], row["events"]) for row in rows}


async def claim(
    session: AsyncSession, claim: Claim, fingerprint: bytes, *, lease: timedelta, lifetime: timedelta
) -> Kept | None:
    """Take an Idempotency-Key, or tell what it was used for. Of several at once one gets it.

    Without an answer another request gets it after `lease`, if it is the same, or after `lifetime`.
    """
    raw = await raw_connection(session)
    while not await raw.fetchval(CLAIM, *claim, fingerprint, lease, lifetime):
        if row := await raw.fetchrow(KEPT, claim.tenant, claim.key):
            return Kept(*row)
    return None


async def keep(session: AsyncSession, claim: Claim, kept: Kept) -> None:
    """Remember the answer, unless the lease has ended and another request has the key now."""
    raw = await raw_connection(session)
    await raw.execute(KEEP, *claim, kept.status, kept.content_type, kept.body)


async def end_lease(session: AsyncSession, claim: Claim) -> None:
    """Let the same request have the key: whether it was carried out nobody knows."""
    raw = await raw_connection(session)
    await raw.execute(RETRY, *claim)


async def release(session: AsyncSession, claim: Claim) -> None:
    """Free a key: nothing was done."""
    raw = await raw_connection(session)
    await raw.execute(RELEASE, *claim)


async def forget_answers(session: AsyncSession) -> None:
    """Delete the expired keys and answers of all tenants."""
    await session.execute(text("SELECT forget_answers()"))
