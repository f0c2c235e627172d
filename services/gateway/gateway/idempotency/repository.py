"""Idempotency-Keys and the answers kept under them, in PostgreSQL."""

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import raw_connection

CLAIM = """
INSERT INTO idempotency_keys AS kept (tenant_id, key, claim, fingerprint, leased_until, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval, now() + $6::interval)
ON CONFLICT (tenant_id, key) DO UPDATE SET
    claim = excluded.claim, fingerprint = excluded.fingerprint, leased_until = excluded.leased_until,
    expires_at = excluded.expires_at, status = NULL, content_type = '', body = '', headers = '{}'
 WHERE kept.expires_at <= now()
    OR (kept.status IS NULL AND kept.leased_until <= now() AND kept.fingerprint = excluded.fingerprint)
RETURNING true
"""
KEPT = """
SELECT fingerprint, status, content_type, body, headers::text FROM idempotency_keys WHERE tenant_id = $1 AND key = $2
"""
KEEP = """
UPDATE idempotency_keys SET status = $4, content_type = $5, body = $6, headers = $7::text::jsonb
 WHERE tenant_id = $1 AND key = $2 AND claim = $3
"""
RETRY = "UPDATE idempotency_keys SET leased_until = now() WHERE tenant_id = $1 AND key = $2 AND claim = $3"
RELEASE = "DELETE FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND claim = $3"


class Claim(NamedTuple):
    """A tenant's Idempotency-Key, and the request (`id`) that may write its answer."""

    tenant: str
    key: str
    id: UUID


class Kept(NamedTuple):
    """The request that an Idempotency-Key was used for and, once it was carried out, its answer."""

    fingerprint: bytes
    status: int | None
    content_type: str
    body: bytes
    headers: str = "{}"
    """The others, as JSON."""


async def claim(
    session: AsyncSession, claim: Claim, fingerprint: bytes, *, lease: timedelta, lifetime: timedelta
) -> Kept | None:
    """Claim an Idempotency-Key: None if that succeeded, else what it was used for. Of several requests one succeeds.

    While there is no answer, the same request can claim it again after `lease`, another one after `lifetime`.
    """
    raw = await raw_connection(session)
    while not await raw.fetchval(CLAIM, *claim, fingerprint, lease, lifetime):
        if row := await raw.fetchrow(KEPT, claim.tenant, claim.key):
            return Kept(*row)
    return None


async def keep(session: AsyncSession, claim: Claim, kept: Kept) -> None:
    """Store the answer, unless the lease has ended and another request has the key now."""
    raw = await raw_connection(session)
    await raw.execute(KEEP, *claim, kept.status, kept.content_type, kept.body, kept.headers)


async def end_lease(session: AsyncSession, claim: Claim) -> None:
    """Let the same request claim the key at once: it is unknown whether it was carried out."""
    raw = await raw_connection(session)
    await raw.execute(RETRY, *claim)


async def release(session: AsyncSession, claim: Claim) -> None:
    """Release a key: nothing was done."""
    raw = await raw_connection(session)
    await raw.execute(RELEASE, *claim)


async def forget_answers(session: AsyncSession) -> None:
    """Delete the expired keys and answers of all tenants."""
    await session.execute(text("SELECT forget_answers()"))
