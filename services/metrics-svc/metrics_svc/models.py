"""The tables of metrics-svc. The consumer writes them in sets (`repository`); answers read the rollups."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Column types shared by all tables: every time is in UTC, every text is `text`."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012 (as SQLAlchemy has it)


class Rollup(Base):
    """What was measured, counted. Sums only: merged by adding, whatever the order."""

    __tablename__ = "rollups"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    """The hour of UTC it was measured in: of the answer, the first response, the resolution."""
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


class Customer(Base):
    """What `customer.updated` last said of a customer, in log order."""

    __tablename__ = "customers"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[str]
    tier: Mapped[str]
    told: Mapped[dict[str, list[int]]] = mapped_column(JSONB, server_default="{}")
    """Of each field, where in the log the event stands that had the last word on it (`touchpoint.contracts.order`)."""


class Ticket(Base):
    """What the times of a ticket are measured from. Without `opened_at`, only later events were seen yet."""

    __tablename__ = "tickets"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime | None]
    channel: Mapped[str | None]
    segment: Mapped[str | None]
    """The customer's when `ticket.opened` was read, and so is the tier."""
    tier: Mapped[str | None]
    replied_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
