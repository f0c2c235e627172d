"""The tables of counts, and of what later events may move in them."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from metrics_svc.catalogue.service import UNKNOWN, quarter
from touchpoint.db.tables import BigInt, Table

Moment = tuple[str, str, datetime]
"""A customer of a tenant at a time."""


class Group(NamedTuple):
    """The customer's segment and tier, by which answers and tickets are grouped."""

    segment: str = UNKNOWN
    tier: str = UNKNOWN


class Cell(NamedTuple):
    """A row of the rollups. Sums only: merged by adding, whatever the order."""

    tenant_id: str
    metric: str
    quarter: datetime
    """The beginning of the quarter of an hour of UTC it was measured in: of the answer, the first response, the
    resolution."""
    scale: str
    """What a score was asked on, such as "1-5"; empty for durations."""
    channel: str
    segment: str
    tier: str
    bucket: int
    """The score itself, or the sketch's bucket of a duration."""
    partition: int
    """The source's: so each row has one writer, and consumers never wait for one another."""
    n: BigInt = 0
    total: BigInt = 0
    """The exact sum of the scores, or of the durations in microseconds."""


class Change(NamedTuple):
    """What one `customer.updated` gives: None is not given, `unknown` is cleared. The latest by time counts."""

    tenant_id: str
    customer_id: str
    at: datetime
    recorded_at: datetime
    event_id: UUID
    segment: str | None
    tier: str | None


class Answer(NamedTuple):
    """A customer's score, and the segment and tier it is counted under: a change read later may move it."""

    tenant_id: str
    customer_id: str
    at: datetime
    event_id: UUID
    metric: str
    scale: str
    channel: str
    score: int
    segment: str
    tier: str

    @property
    def moment(self) -> Moment:
        """Whose group counts, and when."""
        return self.tenant_id, self.customer_id, self.at

    def within(self, group: Group) -> "Answer":
        """The same answer, counted under another group."""
        return self._replace(segment=group.segment, tier=group.tier)

    def cell(self, partition: int) -> "Cell":
        """Where it is counted."""
        about = (self.metric, quarter(self.at), self.scale, self.channel, self.segment, self.tier)
        return Cell(self.tenant_id, *about, self.score, partition)


class TicketRow(NamedTuple):
    """What the times of a ticket are measured from. Without `opened_at`, only later events were read yet."""

    tenant_id: str
    ticket_id: str
    opened_at: datetime | None = None
    recorded_at: datetime | None = None
    """When the opening was recorded; its identity follows. Both decide between two openings of one time."""
    event_id: UUID | None = None
    customer_id: str | None = None
    channel: str | None = None
    segment: str | None = None
    """The customer's at the time of the opening, and so is the tier."""
    tier: str | None = None
    replies: tuple[datetime, ...] = ()
    """Replies of agents in order, up to the first that belongs to the opening."""
    solutions: tuple[datetime, ...] = ()
    """The same of resolutions and closings."""


ROLLUPS = Table(
    "rollups",
    Cell,
    key=("tenant_id", "metric", "quarter", "scale", "channel", "segment", "tier", "bucket", "partition"),
)
CHANGES = Table("changes", Change, key=("tenant_id", "customer_id", "at", "recorded_at", "event_id"))
ANSWERS = Table("answers", Answer, key=("tenant_id", "customer_id", "at", "event_id"))
TICKETS = Table("tickets", TicketRow, key=("tenant_id", "ticket_id"))
