"""What is written for feedback: its row, and the news of it for the other services."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.contracts.feedback import FeedbackRecorded
from touchpoint.contracts.record import Record, encode_extended
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db import outbox


class FeedbackRow(NamedTuple):
    """A row of the feedback, in the order of its columns."""

    tenant_id: str
    id: UUID
    source: str
    event_id: str
    occurred_at: datetime
    recorded_at: datetime
    backfill: bool
    kind: str
    channel: str
    customer_id: str | None
    score_value: float | None
    score_min: float | None
    score_max: float | None
    text: str | None
    language: str | None
    survey_id: str | None
    question_id: str | None
    submission_id: str | None
    journey_stage: str | None
    product: str | None


class NewFeedback(NamedTuple):
    """Feedback to store, and the news of it for the outbox."""

    row: FeedbackRow
    news: outbox.Row


def new_feedback(event: FeedbackSubmitted) -> NewFeedback:
    """What is to be written for feedback."""
    return NewFeedback(_row(event), outbox.row(recorded(event)))


def _row(event: FeedbackSubmitted) -> FeedbackRow:
    meta, score = event.meta, event.score
    return FeedbackRow(
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
        score.value if score else None,
        score.min if score else None,
        score.max if score else None,
        event.text,
        event.language,
        event.survey_id,
        event.question_id,
        event.submission_id,
        event.journey_stage,
        event.product,
    )


def recorded(event: FeedbackSubmitted) -> Record:
    """The news that feedback is stored, a `feedback.recorded`."""
    return encode_extended(event, FeedbackRecorded, feedback_id=event.meta.identity)
