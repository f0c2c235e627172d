"""API keys: `tp_<prefix>_<secret>`. The prefix is public and names the key; the secret is 256 random bits.

At that entropy a single SHA-256 is as good as a slow hash: there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gateway import repository
from gateway.models import ApiKey, Quota
from touchpoint.base.errors import UsageError
from touchpoint.db.tenants import TENANT
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope

LIFETIME = timedelta(days=365)
OVERLAP = timedelta(hours=24)
"""How long the old secret works beside the new one after a rotation."""

MAX_NAME = 100
"""As much of a key's name as goes along with what it asks for."""

_TOKEN = re.compile(r"tp_([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with its token, which can be shown this once."""

    key: ApiKey
    token: str


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def split(token: str) -> tuple[str, str] | None:
    """A token's prefix and secret; None when it has not the form of one."""
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


@dataclass(frozen=True, slots=True)
class Holder(Caller):
    """Whoever holds the key, and the limits that are its own; None: those of all."""

    event_rate: int | None = None
    request_rate: int | None = None
    events_per_day: int | None = None
    """Its tenant's, with all its keys."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a request's key is checked against."""

    caller: Holder
    secret_hash: bytes
    previous_hash: bytes | None
    previous_until: datetime
    ends: datetime

    @classmethod
    def of(cls, row: ApiKey, events_per_day: int | None) -> "Key":
        """The key as it was read, with its tenant's quota."""
        return cls(
            caller=Holder(
                row.tenant_id,
                frozenset(row.scopes),
                row.prefix,
                row.name[:MAX_NAME],
                event_rate=row.event_rate,
                request_rate=row.request_rate,
                events_per_day=events_per_day,
            ),
            secret_hash=row.secret_hash,
            previous_hash=row.previous_hash,
            previous_until=row.previous_until or row.created_at,
            ends=min(row.expires_at, row.revoked_at or row.expires_at),
        )

    def opened_by(self, secret: str, now: datetime) -> bool:
        """Whether the secret is this key's and the key is still good. Compares in constant time."""
        presented = digest(secret)
        opened = hmac.compare_digest(self.secret_hash, presented)
        if self.previous_hash is not None and now < self.previous_until:
            opened |= hmac.compare_digest(self.previous_hash, presented)
        return opened and now < self.ends


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
    """Make a key. Raises UsageError on a tenant's name that could not be part of every partition key."""
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
    """Give a key a new secret and a new lifetime; the old secret works for the overlap, one older still no more."""
    key = await _existing(session, prefix)
    if key.revoked_at is not None:
        raise UsageError(f"key {prefix} is revoked for good: create another")
    secret, now = secrets.token_hex(32), datetime.now(UTC)
    key.previous_hash, key.previous_until = key.secret_hash, min(now + overlap, key.expires_at)
    key.secret_hash, key.expires_at = digest(secret), now + lifetime
    return Issued(key, f"tp_{prefix}_{secret}")


async def revoke(session: AsyncSession, prefix: str) -> ApiKey:
    """End a key for good; within seconds no gateway takes it. Again: the key as it is."""
    key = await _existing(session, prefix)
    key.revoked_at = key.revoked_at or datetime.now(UTC)
    return key


async def limit(session: AsyncSession, prefix: str, event_rate: int | None, request_rate: int | None) -> ApiKey:
    """Give a key rates of its own, per second; None is the gateway's default."""
    key = await _existing(session, prefix)
    key.event_rate, key.request_rate = event_rate, request_rate
    return key


async def set_quota(session: AsyncSession, tenant: str, events_per_day: int | None) -> Quota:
    """Let a tenant send so many events a day; None is the gateway's default."""
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
