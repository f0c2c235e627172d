"""API keys: `tp_<prefix>_<secret>`. The prefix is public and names the key; the secret is 256 random bits.

At that entropy a single SHA-256 is as good as a slow hash: the secret cannot be guessed.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from gateway.keys.models import ApiKey
from touchpoint.http.identity import Caller

MAX_NAME = 100
"""Characters of a key's name that are passed on to services."""

_TOKEN = re.compile(r"tp_([0-9a-f]{12})_([0-9a-f]{64})")


def digest(secret: str) -> bytes:
    """The hash of a secret, which is stored."""
    return hashlib.sha256(secret.encode()).digest()


def split(token: str) -> tuple[str, str] | None:
    """A token's prefix and secret; None when it is not of the form of a token."""
    match = _TOKEN.fullmatch(token)
    return (match[1], match[2]) if match else None


@dataclass(frozen=True, slots=True)
class Holder(Caller):
    """The caller of a request, with the limits of its own; None: the gateway's defaults."""

    event_rate: int | None = None
    request_rate: int | None = None
    events_per_day: int | None = None
    """The quota of its tenant, which all the tenant's keys share."""


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key, against which a request's token is checked."""

    caller: Holder
    secret_hash: bytes
    previous_hash: bytes | None
    previous_until: datetime
    ends: datetime

    @classmethod
    def of(cls, row: ApiKey, events_per_day: int | None) -> "Key":
        """The key of a row, with its tenant's quota."""
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
        """Whether the secret is this key's, and the key is valid at `now`. Compares in constant time."""
        presented = digest(secret)
        opened = hmac.compare_digest(self.secret_hash, presented)
        if self.previous_hash is not None and now < self.previous_until:
            opened |= hmac.compare_digest(self.previous_hash, presented)
        return opened and now < self.ends
