"""API keys: `tp_<prefix>_<secret>`. The prefix is public and names the key; the secret is 256 random bits.

At that entropy a single SHA-256 is as good as a slow hash: there is nothing to guess.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from gateway.keys.models import ApiKey
from touchpoint.http.identity import Caller

MAX_NAME = 100
"""As much of a key's name as goes along with what it asks for."""

_TOKEN = re.compile(r"tp_([0-9a-f]{12})_([0-9a-f]{64})")


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
