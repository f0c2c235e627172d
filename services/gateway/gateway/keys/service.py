"""Creating, changing and revoking API keys and quotas. A `Keyring` checks the keys of requests."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.keys import repository
from gateway.keys.decisions import Holder, digest
from gateway.keys.keyring import Keyring
from gateway.keys.models import ApiKey, Quota
from gateway.keys.repository import share_days
from touchpoint.base.errors import UsageError
from touchpoint.db.tenants import TENANT
from touchpoint.http.scopes import Scope

LIFETIME = timedelta(days=365)
OVERLAP = timedelta(hours=24)
"""How long the old secret works beside the new one after a rotation."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new or rotated key with its token, which cannot be shown again."""

    key: ApiKey
    token: str


async def create(
    session: AsyncSession,
    tenant: str,
    name: str,
    scopes: Sequence[Scope],
    lifetime: timedelta = LIFETIME,
    *,
    event_rate: int | None = None,
    request_rate: int | None = None,
) -> Issued:
    """Create a key. Raises UsageError when the tenant's name is not of the form that partition keys need."""
    prefix, secret, now = secrets.token_hex(6), secrets.token_hex(32), datetime.now(UTC)
    key = ApiKey(
        prefix=prefix,
        tenant_id=_possible(tenant),
        name=name,
        scopes=sorted(set(scopes)),
        secret_hash=digest(secret),
        created_at=now,
        expires_at=now + lifetime,
        event_rate=event_rate,
        request_rate=request_rate,
    )
    session.add(key)
    await session.flush()
    return Issued(key, f"tp_{prefix}_{secret}")


async def rotate(session: AsyncSession, prefix: str, overlap: timedelta, lifetime: timedelta = LIFETIME) -> Issued:
    """Give a key a new secret and lifetime. The previous secret works for `overlap`; older ones stop at once."""
    key = await _existing(session, prefix)
    if key.revoked_at is not None:
        raise UsageError(f"key {prefix} is revoked for good: create another")
    secret, now = secrets.token_hex(32), datetime.now(UTC)
    key.previous_hash, key.previous_until = key.secret_hash, min(now + overlap, key.expires_at)
    key.secret_hash, key.expires_at = digest(secret), now + lifetime
    return Issued(key, f"tp_{prefix}_{secret}")


async def revoke(session: AsyncSession, prefix: str) -> ApiKey:
    """Revoke a key for good; within seconds every gateway refuses it. A revoked key stays as it is."""
    key = await _existing(session, prefix)
    key.revoked_at = key.revoked_at or datetime.now(UTC)
    return key


async def limit(session: AsyncSession, prefix: str, event_rate: int | None, request_rate: int | None) -> ApiKey:
    """Set a key's own rates, per second. None: the gateway's default."""
    key = await _existing(session, prefix)
    key.event_rate, key.request_rate = event_rate, request_rate
    return key


async def set_quota(session: AsyncSession, tenant: str, events_per_day: int | None) -> Quota:
    """Set how many events a tenant may send a day. None: the gateway's default."""
    statement = insert(Quota).values(tenant_id=_possible(tenant), events_per_day=events_per_day)
    changed = statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"events_per_day": events_per_day})
    return (await session.scalars(changed.returning(Quota))).one()


async def _existing(session: AsyncSession, prefix: str) -> ApiKey:
    key = await repository.find(session, prefix, lock=True)
    if key is None:
        raise UsageError(f"no key has the prefix {prefix}: see `touchpoint keys list`")
    return key


def _possible(tenant: str) -> str:
    if not TENANT.fullmatch(tenant):
        raise UsageError(f"tenant {tenant!r} is not possible: use 1–63 of a–z, 0–9, - and _, a letter or digit first")
    return tenant


__all__ = [
    "LIFETIME",
    "OVERLAP",
    "Holder",
    "Issued",
    "Keyring",
    "create",
    "limit",
    "revoke",
    "rotate",
    "set_quota",
    "share_days",
]
