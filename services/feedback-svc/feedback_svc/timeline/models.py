"""The table of the timelines."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.db.listing import Listing
from touchpoint.db.tables import Json, Table


class Entry(NamedTuple):
    """One touchpoint of a customer. `id` is the identity of its event, `details` the event's data, cut to size."""

    tenant_id: str
    customer_id: str
    occurred_at: datetime
    id: UUID
    type: str
    title: str
    details: Json
    recorded_at: datetime


TIMELINE = Table("timeline", Entry, key=("tenant_id", "customer_id", "occurred_at", "id"))
"""Rows are only inserted, as those of feedback."""

NEWEST_FIRST = Listing(TIMELINE, "occurred_at", "id")
