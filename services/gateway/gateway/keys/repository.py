"""SQL for API keys, and for the number of events that tenants have sent on a day."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.keys.models import ApiKey, Quota
from touchpoint.db.engine import raw_connection

# The caller sorts the prefixes, so that two gateways cannot deadlock.
TOUCH = """
UPDATE api_keys SET last_used_at = used.at
  FROM (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (prefix, at)) AS used
 WHERE api_keys.prefix = used.prefix AND (last_used_at IS NULL OR last_used_at < used.at)
"""


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


async def find(session: AsyncSession, prefix: str, *, lock: bool = False) -> ApiKey | None:
    """The key with this prefix; `lock` keeps it from changing until the transaction ends."""
    return await session.get(ApiKey, prefix, with_for_update=lock)


async def find_all(session: AsyncSession, prefixes: Sequence[str]) -> Sequence[tuple[ApiKey, int | None]]:
    """The keys with these prefixes, each with its tenant's own quota."""
    wanted = select(ApiKey, Quota.events_per_day).outerjoin(Quota, Quota.tenant_id == ApiKey.tenant_id)
    rows = await session.execute(wanted.where(ApiKey.prefix.in_(prefixes)))
    return [(key, quota) for key, quota in rows]


async def list_keys(session: AsyncSession, tenant: str | None = None) -> Sequence[ApiKey]:
    """All keys, or those of a tenant, oldest first."""
    wanted = select(ApiKey).order_by(ApiKey.created_at, ApiKey.prefix)
    if tenant is not None:
        wanted = wanted.where(ApiKey.tenant_id == tenant)
    return (await session.scalars(wanted)).all()


async def touch(session: AsyncSession, used: Mapping[str, datetime]) -> None:
    """Record when keys were last used."""
    raw = await raw_connection(session)
    prefixes = sorted(used)
    await raw.execute(TOUCH, prefixes, [used[prefix] for prefix in prefixes])


async def share_days(session: AsyncSession, sent: Mapping[str, tuple[date, int]]) -> dict[str, tuple[date, int]]:
    """Add numbers of events to the daily sums of all gateways; returns each tenant's newest day and its sum."""
    raw = await raw_connection(session)
    days, counts = map(list, zip(*sent.values(), strict=True))
    rows = await raw.fetch(SHARE_DAYS, list(sent), days, counts)
    return {row["tenant_id"]: (row["day"], row["events"]) for row in rows}
