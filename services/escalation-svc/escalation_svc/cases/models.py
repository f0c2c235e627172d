"""The table of cases."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.db.listing import Listing
from touchpoint.db.tables import Table


class Case(NamedTuple):
    """A case. Its columns have the names of the fields of `escalation.opened`: case events carry the whole row.

    `state` goes open → acknowledged → resolved, or open → resolved. `case_version` starts at 1 and counts the steps.
    """

    tenant_id: str
    escalation_id: UUID
    case_version: int
    customer_id: str | None
    reason: str
    policy: str
    priority: str
    state: str
    feedback_id: UUID | None
    ticket_id: str | None
    opened_at: datetime
    recorded_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None


CASES = Table("escalations", Case, key=("tenant_id", "escalation_id"))

NEWEST_FIRST = Listing(CASES, "opened_at", "escalation_id")
