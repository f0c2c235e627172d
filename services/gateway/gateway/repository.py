"""API keys in and out of PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.models import ApiKey
from touchpoint.db.engine import raw_connection

# Sorted, so that two gateways touching the same keys cannot lock each other out.
TOUCH = """
UPDATE api_keys SET last_used_at = used.at
  FROM (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS used (prefix, at)) AS used
 WHERE api_keys.prefix = used.prefix AND (last_used_at IS NULL OR last_used_at < used.at)
"""


async def find(session: AsyncSession, prefix: str, *, lock: bool = False) -> ApiKey | None:
    """The key with this prefix; `lock` keeps it from changing until the transaction ends."""
    return await session.get(ApiKey, prefix, with_for_update=lock)


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
