"""Converts a `feedback.submitted` event to a row of `feedback` and to a `feedback.recorded` event."""

from typing import NamedTuple

from feedback_svc.feedback.models import Feedback
from touchpoint.contracts.feedback import FeedbackRecorded
from touchpoint.contracts.record import Record, encode_extended
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db import outbox


class NewFeedback(NamedTuple):
    """A row to store and the outbox row of its `feedback.recorded` event."""

    row: Feedback
    announcement: outbox.Row


def new_feedback(event: FeedbackSubmitted) -> NewFeedback:
    """The rows to write for one `feedback.submitted` event."""
    return NewFeedback(_row(event), outbox.row(recorded(event)))


def _row(event: FeedbackSubmitted) -> Feedback:
    meta, score = event.meta, event.score
    return Feedback(
        tenant_id=meta.tenant,
        id=meta.identity,
        source=meta.source,
        event_id=meta.id,
        occurred_at=meta.time,
        recorded_at=meta.recorded,
        backfill=meta.backfill,
        kind=event.kind,
        channel=event.channel,
        customer_id=event.customer_id,
        score_value=score.value if score else None,
        score_min=score.min if score else None,
        score_max=score.max if score else None,
        text=event.text,
        language=event.language,
        survey_id=event.survey_id,
        question_id=event.question_id,
        submission_id=event.submission_id,
        journey_stage=event.journey_stage,
        product=event.product,
    )


def recorded(event: FeedbackSubmitted) -> Record:
    """The `feedback.recorded` event that announces stored feedback, encoded as a Kafka record."""
    return encode_extended(event, FeedbackRecorded, feedback_id=event.meta.identity)
