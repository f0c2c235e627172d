"""The table of the timelines, as its queries read it. Rows are written by `repository`, in sets."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB}  # noqa: RUF012 (as SQLAlchemy has it)


class TimelineEntry(Base):
    """One touchpoint of a customer. `id` is the identity of its event, `details` the event's data, cut to size."""

    __tablename__ = "timeline"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime]
    type: Mapped[str]
    title: Mapped[str]
    details: Mapped[dict[str, Any]]
