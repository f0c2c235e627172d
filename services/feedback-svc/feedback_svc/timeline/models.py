"""The table of the timelines."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.db.listing import Listing
from touchpoint.db.tables import Json, Table


class Entry(NamedTuple):
    """One touchpoint of a customer. `id` is the event's identity, `details` its data as JSON with long texts cut."""

    tenant_id: str
    customer_id: str
    occurred_at: datetime
    id: UUID
    type: str
    title: str
    details: Json
    recorded_at: datetime


TIMELINE = Table("timeline", Entry, key=("tenant_id", "customer_id", "occurred_at", "id"))
"""Rows are only inserted: the inbox lets each event through once, so a row that already exists is a bug."""

NEWEST_FIRST = Listing(TIMELINE, "occurred_at", "id")
