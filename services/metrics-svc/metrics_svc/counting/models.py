"""The tables of metrics-svc. The consumer writes them in sets (`repository`); answers read the rollups."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC, every text is `text`."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012 (as SQLAlchemy has it)


class Rollup(Base):
    """What was measured, counted. Sums only: merged by adding, whatever the order."""

    __tablename__ = "rollups"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    quarter: Mapped[datetime] = mapped_column(primary_key=True)
    """The beginning of the quarter of an hour of UTC it was measured in: of the answer, the first response, the
    resolution."""
    scale: Mapped[str] = mapped_column(primary_key=True)
    """What a score was asked on, such as "1-5"; empty for durations."""
    channel: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[str] = mapped_column(primary_key=True)
    tier: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True)
    """The score itself, or the sketch's bucket of a duration."""
    partition: Mapped[int] = mapped_column(primary_key=True)
    """The source's: so each row has one writer, and consumers never wait for one another."""
    n: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)
    """The exact sum of the scores, or of the durations in microseconds."""


class Change(Base):
    """What one `customer.updated` gives: null is not given, `unknown` is cleared. The latest by time counts."""

    __tablename__ = "changes"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    segment: Mapped[str | None]
    tier: Mapped[str | None]


class Answer(Base):
    """A customer's score, and the segment and tier it is counted under: a change read later may move it."""

    __tablename__ = "answers"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    metric: Mapped[str]
    scale: Mapped[str]
    channel: Mapped[str]
    score: Mapped[int]
    segment: Mapped[str]
    tier: Mapped[str]


class Ticket(Base):
    """What the times of a ticket are measured from. Without `opened_at`, only later events were read yet."""

    __tablename__ = "tickets"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime | None]
    """When the opening was recorded; its identity follows. Both decide between two openings of one time."""
    event_id: Mapped[UUID | None]
    customer_id: Mapped[str | None]
    channel: Mapped[str | None]
    segment: Mapped[str | None]
    """The customer's at the time of the opening, and so is the tier."""
    tier: Mapped[str | None]
    replies: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
    """Replies of agents in order, up to the first that belongs to the opening."""
    solutions: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
    """The same of resolutions and closings."""
