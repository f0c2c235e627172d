"""Rows of feedback-svc in and out of PostgreSQL.

Inserts have no ON CONFLICT: the inbox lets each event through once, so a row that is already there is a bug. It must
fail, become a dead letter and be seen, not be swallowed as if it were a retry.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Result, RowMapping, select
from sqlalchemy.ext.asyncio import AsyncSession

from feedback_svc.models import Feedback, TimelineEntry
from feedback_svc.schemas import FeedbackQuery, TimelineQuery
from feedback_svc.service import NewEntry
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db.engine import insert
from touchpoint.http.pagination import newest

FEEDBACK, TIMELINE = Feedback.__table__, TimelineEntry.__table__
"""Pages are read as plain rows: fifty objects of the ORM cost more than their query."""

ORDER = ("occurred_at", "id")
"""What orders every list of this service, newest first."""

EXACT_FILTERS = ("kind", "channel", "customer_id", "survey_id", "product", "journey_stage", "language")

FEEDBACK_COLUMNS = (
    "tenant_id", "id", "source", "event_id", "occurred_at", "recorded_at", "backfill", "kind", "channel", "customer_id",
    "score_value", "score_min", "score_max", "text", "language", "survey_id", "question_id", "submission_id",
    "journey_stage", "product",
)  # fmt: skip


async def insert_feedback(session: AsyncSession, events: Sequence[FeedbackSubmitted]) -> None:
    """Store feedback, all of it at once."""
    await insert(session, "feedback", FEEDBACK_COLUMNS, [_feedback_row(event) for event in events])


async def insert_timeline(session: AsyncSession, entries: Sequence[NewEntry]) -> None:
    """Add entries to timelines, all of them at once."""
    await insert(session, "timeline", NewEntry._fields, entries)


def _feedback_row(event: FeedbackSubmitted) -> tuple[Any, ...]:
    meta, score = event.meta, event.score
    return (
        meta.tenant,
        meta.identity,
        meta.source,
        meta.id,
        meta.time,
        meta.recorded,
        meta.backfill,
        event.kind,
        event.channel,
        event.customer_id,
        score and score.value,
        score and score.min,
        score and score.max,
        event.text,
        event.language,
        event.survey_id,
        event.question_id,
        event.submission_id,
        event.journey_stage,
        event.product,
    )


async def find_feedback(session: AsyncSession, tenant: str, feedback_id: UUID) -> RowMapping | None:
    """One piece of the tenant's feedback."""
    wanted = select(FEEDBACK).where(FEEDBACK.c.tenant_id == tenant, FEEDBACK.c.id == feedback_id)
    return (await session.execute(wanted)).mappings().one_or_none()


async def list_feedback(session: AsyncSession, tenant: str, query: FeedbackQuery) -> Sequence[RowMapping]:
    """The matching feedback, newest first, one row more than the page shows: it tells whether there is a next."""
    wanted = select(FEEDBACK).where(FEEDBACK.c.tenant_id == tenant)
    for name in EXACT_FILTERS:
        if (value := getattr(query, name)) is not None:
            wanted = wanted.where(FEEDBACK.c[name] == value)
    if query.min_score is not None:
        wanted = wanted.where(FEEDBACK.c.score_value >= query.min_score)
    if query.max_score is not None:
        wanted = wanted.where(FEEDBACK.c.score_value <= query.max_score)
    found: Result[Any] = await session.execute(newest(wanted, FEEDBACK.c.occurred_at, FEEDBACK.c.id, query))
    return found.mappings().all()


async def list_timeline(
    session: AsyncSession, tenant: str, customer_id: str, query: TimelineQuery
) -> Sequence[RowMapping]:
    """The matching entries, newest first, one more than the page shows."""
    wanted = select(TIMELINE).where(TIMELINE.c.tenant_id == tenant, TIMELINE.c.customer_id == customer_id)
    if query.type:
        wanted = wanted.where(TIMELINE.c.type.in_(query.type))
    found: Result[Any] = await session.execute(newest(wanted, TIMELINE.c.occurred_at, TIMELINE.c.id, query))
    return found.mappings().all()
