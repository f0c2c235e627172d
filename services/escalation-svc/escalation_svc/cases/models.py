"""The table of cases, as the API reads and changes it. New rows are written by `repository`, in sets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (as SQLAlchemy has it)


class Escalation(Base):
    """A case. Its columns are named as the fields of `escalation.opened`: the events carry the whole row.

    `state` goes open → acknowledged → resolved, or open → resolved; `case_version` counts the steps.
    """

    __tablename__ = "escalations"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    escalation_id: Mapped[UUID] = mapped_column(primary_key=True)
    case_version: Mapped[int]
    customer_id: Mapped[str | None]
    reason: Mapped[str]
    policy: Mapped[str]
    priority: Mapped[str]
    state: Mapped[str]
    feedback_id: Mapped[UUID | None]
    ticket_id: Mapped[str | None]
    opened_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    resolution: Mapped[str | None]
