"""Rows of timelines in and out of PostgreSQL.

Inserts have no ON CONFLICT: see `feedback.repository`.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from feedback_svc.timeline.schemas import TimelineEntryRead, TimelineQuery
from feedback_svc.timeline.service import NewEntry
from touchpoint.db.engine import insert
from touchpoint.db.tenants import Tenants
from touchpoint.http.pagination import Listing, exactly

ORDER = ("occurred_at", "id")
"""What orders a timeline, newest first."""

TIMELINE = Listing("timeline", ("id", "type", "occurred_at", "recorded_at", "title", "details::text"), *ORDER)


async def insert_timeline(session: AsyncSession, entries: Sequence[NewEntry]) -> None:
    """Add entries to timelines, all of them at once."""
    await insert(session, "timeline", NewEntry._fields, entries)


async def list_timeline(
    tenants: Tenants, tenant: str, customer_id: str, query: TimelineQuery
) -> list[TimelineEntryRead]:
    """The matching entries, newest first, one more than the page shows."""
    conditions = {"customer_id = {}": customer_id, **exactly(query, ("type",))}
    return [TimelineEntryRead.of(row) for row in await TIMELINE.read(tenants, tenant, query, conditions)]
