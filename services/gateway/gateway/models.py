"""The table of the gateway."""

from datetime import datetime

from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Text


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True), list[str]: ARRAY(Text)}  # noqa: RUF012 (as SQLAlchemy has it)


class ApiKey(Base):
    """An API key: its public prefix and hashes of its secrets; a secret itself is nowhere.

    Keys stand above tenants: the prefix is what tells the tenant, so it alone is the primary key.
    """

    __tablename__ = "api_keys"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    scopes: Mapped[list[str]]
    secret_hash: Mapped[bytes]
    previous_hash: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    """Until when the secret from before the last rotation works, too."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
