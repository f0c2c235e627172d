"""The table of feedback."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.db.listing import Listing
from touchpoint.db.tables import Table


class Feedback(NamedTuple):
    """One answer, rating or remark. `id` is the identity of its `feedback.submitted` event."""

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


FEEDBACK = Table("feedback", Feedback, key=("tenant_id", "id"))
"""Rows are only inserted. The inbox lets each event through once, so a row that already exists is a bug: the insert
must fail and make the event a dead letter, not skip the row as if it were a retry."""

NEWEST_FIRST = Listing(FEEDBACK, "occurred_at", "id")
