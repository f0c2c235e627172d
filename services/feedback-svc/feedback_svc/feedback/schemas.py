"""Request parameters and response bodies of the feedback API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from feedback_svc.feedback.models import Feedback
from touchpoint.contracts.base import Identifier, Label
from touchpoint.contracts.touchpoints import Channel, FeedbackKind, Language
from touchpoint.http.pagination import PageQuery, Several, answers

Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(slots=True)
class ScoreRead:
    """A score and the bounds of its scale, without which the value means nothing."""

    value: float
    min: float
    max: float


@dataclass(slots=True)
class FeedbackRead:
    """One piece of feedback as it was stored."""

    id: UUID
    source: Annotated[str, Field(description="CloudEvents source of the event it was submitted in")]
    event_id: Annotated[str, Field(description="CloudEvents id of the event it was submitted in")]
    occurred_at: datetime
    recorded_at: Annotated[datetime, Field(description="when the gateway accepted it")]
    backfill: Annotated[bool, Field(description="whether it is imported history")]
    kind: Annotated[str, Field(examples=["nps"])]
    channel: Annotated[str, Field(examples=["email"])]
    customer_id: str | None
    score: ScoreRead | None
    text: str | None
    language: str | None
    survey_id: str | None
    question_id: str | None
    submission_id: str | None
    journey_stage: str | None
    product: str | None


def _score(row: Feedback) -> ScoreRead | None:
    if row.score_value is None or row.score_min is None or row.score_max is None:
        return None
    return ScoreRead(row.score_value, row.score_min, row.score_max)


feedback_read = answers(FeedbackRead, score=_score)
"""Converts a row to its response item."""


class FeedbackQuery(PageQuery):
    """Filters of the feedback list. A row must match every filter; it matches a filter if it has one of its values."""

    kind: Several[FeedbackKind] = Field(
        [], description="repeat the parameter to match any of several values, as with every list filter"
    )
    channel: Several[Channel] = Field([])
    customer_id: Several[Identifier] = Field([])
    survey_id: Several[Identifier] = Field([])
    product: Several[Label] = Field([])
    journey_stage: Several[Label] = Field([])
    language: Several[Language] = Field([], description="matched exactly as it was sent", examples=[["pt-BR"]])
    min_score: Finite | None = Field(
        None, description="lowest score to match, in points of the feedback's own scale: combine it with `kind`"
    )
    max_score: Finite | None = Field(None, description="highest score to match, in points of the same scale")

    def bounds(self) -> dict[tuple[str, str], Any]:
        """The bounds of the list's query, and those of the score."""
        return {
            **super().bounds(),
            ("score_value", ">="): self.min_score,
            ("score_value", "<="): self.max_score,
        }
