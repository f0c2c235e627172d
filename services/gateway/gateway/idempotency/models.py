"""The table of Idempotency-Keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (SQLAlchemy's declarative style)


class IdempotencyKey(Base):
    """The key of a request, the hash of the request, and its answer."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    claim: Mapped[UUID]
    """The request that may write the answer, until `leased_until`."""
    leased_until: Mapped[datetime]
    expires_at: Mapped[datetime]
    status: Mapped[int | None]
    """None: the request is being carried out, or it is unknown whether it was."""
    content_type: Mapped[str] = mapped_column(server_default="")
    body: Mapped[bytes] = mapped_column(server_default="")
    headers: Mapped[str] = mapped_column(JSONB, server_default="{}")
    """The answer's other headers, such as its Location and ETag."""
