"""The table of counts, and the tables of facts that later events may regroup."""

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
    """A row of the rollups. It has only sums, which can be added in any order."""

    tenant_id: str
    metric: str
    quarter: datetime
    """The beginning of the quarter of an hour of UTC it was measured in: of the answer, the first response, the
    resolution."""
    scale: str
    """The scale of a score, such as "1-5"; empty for durations."""
    channel: str
    segment: str
    tier: str
    bucket: int
    """The score itself, or the sketch's bucket of a duration."""
    partition: int
    """Partition of the counted event. Each row thus has one writer, so consumers never wait for each other's locks."""
    n: BigInt = 0
    total: BigInt = 0
    """The exact sum of the scores, or of the durations in microseconds."""


class Change(NamedTuple):
    """The fields of one `customer.updated`. None: not given; `unknown`: cleared. The latest by time is in force."""

    tenant_id: str
    customer_id: str
    at: datetime
    recorded_at: datetime
    event_id: UUID
    segment: str | None
    tier: str | None


class Answer(NamedTuple):
    """A customer's score with the segment and tier it is counted under, which a change consumed later may replace."""

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
        """The customer and time whose group applies."""
        return self.tenant_id, self.customer_id, self.at

    def within(self, group: Group) -> "Answer":
        """The same answer, counted under another group."""
        return self._replace(segment=group.segment, tier=group.tier)

    def cell(self, partition: int) -> "Cell":
        """The cell of the rollups in which the answer is counted."""
        about = (self.metric, quarter(self.at), self.scale, self.channel, self.segment, self.tier)
        return Cell(self.tenant_id, *about, self.score, partition)


class TicketRow(NamedTuple):
    """The times of a ticket. Without `opened_at`, its opening has not been consumed yet."""

    tenant_id: str
    ticket_id: str
    opened_at: datetime | None = None
    recorded_at: datetime | None = None
    """When the opening was recorded; its identity follows. Both decide between two openings of one time."""
    event_id: UUID | None = None
    customer_id: str | None = None
    channel: str | None = None
    segment: str | None = None
    """The customer's segment at the time of the opening; `tier` likewise."""
    tier: str | None = None
    replies: tuple[datetime, ...] = ()
    """Replies of agents in order, up to the first that belongs to the opening."""
    solutions: tuple[datetime, ...] = ()
    """Resolutions and closings in order, up to the first that belongs to the opening."""


ROLLUPS = Table(
    "rollups",
    Cell,
    key=("tenant_id", "metric", "quarter", "scale", "channel", "segment", "tier", "bucket", "partition"),
)
CHANGES = Table("changes", Change, key=("tenant_id", "customer_id", "at", "recorded_at", "event_id"))
ANSWERS = Table("answers", Answer, key=("tenant_id", "customer_id", "at", "event_id"))
TICKETS = Table("tickets", TicketRow, key=("tenant_id", "ticket_id"))
