"""The tables of API keys and of tenants' quotas."""

from datetime import date, datetime

from sqlalchemy import BigInteger, DateTime
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Text


class Base(DeclarativeBase):
    """Column types shared by these tables: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True), list[str]: ARRAY(Text)}  # noqa: RUF012 (SQLAlchemy's declarative style)


class ApiKey(Base):
    """An API key: its public prefix and the hashes of its secrets. The secrets are not stored.

    The primary key has no tenant: a request names only the prefix, and the row names its tenant.
    """

    __tablename__ = "api_keys"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    scopes: Mapped[list[str]]
    secret_hash: Mapped[bytes]
    previous_hash: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    """The secret from before the last rotation works until then."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    event_rate: Mapped[int | None]
    """Events a second; None: the gateway's default."""
    request_rate: Mapped[int | None]


class Quota(Base):
    """How many events a tenant may send on a day (UTC), and how many it sent on the last day it sent any."""

    __tablename__ = "quotas"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    events_per_day: Mapped[int | None] = mapped_column(BigInteger)
    """None: the gateway's default."""
    day: Mapped[date | None]
    events: Mapped[int] = mapped_column(BigInteger, server_default="0")
