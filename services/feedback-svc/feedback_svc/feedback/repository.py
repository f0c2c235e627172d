"""Rows of feedback in and out of PostgreSQL.

Inserts have no ON CONFLICT: the inbox lets each event through once, so a row that is already there is a bug. It must
fail, become a dead letter and be seen, not be swallowed as if it were a retry.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from feedback_svc.feedback.schemas import FeedbackQuery, FeedbackRead
from feedback_svc.feedback.service import FeedbackRow
from touchpoint.db.engine import insert
from touchpoint.db.tenants import Tenants
from touchpoint.http.pagination import Listing, exactly

ORDER = ("occurred_at", "id")
"""What orders the list, newest first."""

EXACT_FILTERS = ("kind", "channel", "customer_id", "survey_id", "product", "journey_stage", "language")

FEEDBACK = Listing("feedback", FeedbackRow._fields[1:], *ORDER)
"""As `FeedbackRead.of` reads them: all but the tenant."""


async def insert_feedback(session: AsyncSession, rows: Sequence[FeedbackRow]) -> None:
    """Store feedback, all of it at once."""
    await insert(session, "feedback", FeedbackRow._fields, rows)


async def find_feedback(tenants: Tenants, tenant: str, feedback_id: UUID) -> FeedbackRead | None:
    """One piece of the tenant's feedback."""
    rows = await tenants.fetch(tenant, f"{FEEDBACK.select} AND id = $2", feedback_id)
    return FeedbackRead.of(rows[0]) if rows else None


async def list_feedback(tenants: Tenants, tenant: str, query: FeedbackQuery) -> list[FeedbackRead]:
    """The matching feedback, newest first, one more than the page shows: it tells whether there is a next."""
    conditions = {
        **exactly(query, EXACT_FILTERS),
        "score_value >= {}": query.min_score,
        "score_value <= {}": query.max_score,
    }
    return [FeedbackRead.of(row) for row in await FEEDBACK.read(tenants, tenant, query, conditions)]
