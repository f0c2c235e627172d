"""The table of keys that requests were given."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (as SQLAlchemy has it)


class IdempotencyKey(Base):
    """A key a client gave a request, what the request was, and its answer."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    claim: Mapped[UUID]
    """Which request may write the answer, and until when it is waited for."""
    leased_until: Mapped[datetime]
    expires_at: Mapped[datetime]
    status: Mapped[int | None]
    """None: being carried out, or nobody knows whether it was."""
    content_type: Mapped[str] = mapped_column(server_default="")
    body: Mapped[bytes] = mapped_column(server_default="")
    headers: Mapped[str] = mapped_column(JSONB, server_default="{}")
    """The answer's other headers, such as its Location and ETag."""
