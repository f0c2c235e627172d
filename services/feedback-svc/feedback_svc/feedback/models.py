"""The table of feedback."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from touchpoint.db.listing import Listing
from touchpoint.db.tables import Table


class Feedback(NamedTuple):
    """One answer, rating or remark. `id` is the identity of the event that brought it."""

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
"""Rows are only inserted. The inbox lets each event through once, so a row that is there already is a bug: it must fail
and become a dead letter, not be passed over as if it were a retry."""

NEWEST_FIRST = Listing(FEEDBACK, "occurred_at", "id")
