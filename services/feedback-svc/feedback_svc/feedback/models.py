"""The table of feedback, as its queries read it. Rows are written by `repository`, in sets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (as SQLAlchemy has it)


class Feedback(Base):
    """One answer, rating or remark. `id` is the identity of the event that brought it."""

    __tablename__ = "feedback"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    source: Mapped[str]
    event_id: Mapped[str]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    backfill: Mapped[bool]
    kind: Mapped[str]
    channel: Mapped[str]
    customer_id: Mapped[str | None]
    score_value: Mapped[float | None]
    score_min: Mapped[float | None]
    score_max: Mapped[float | None]
    text: Mapped[str | None]
    language: Mapped[str | None]
    survey_id: Mapped[str | None]
    question_id: Mapped[str | None]
    submission_id: Mapped[str | None]
    journey_stage: Mapped[str | None]
    product: Mapped[str | None]
