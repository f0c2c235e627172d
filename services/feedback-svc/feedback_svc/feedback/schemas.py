"""What the API takes and answers about feedback."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from feedback_svc.feedback.models import Feedback
from touchpoint.contracts.base import Identifier, Label
from touchpoint.contracts.touchpoints import Channel, FeedbackKind, Language
from touchpoint.db.listing import Selection
from touchpoint.http.pagination import PageQuery, Several, answers

Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(slots=True)
class ScoreRead:
    """A score with the bounds of the scale it was asked on, which give it its meaning."""

    value: float
    min: float
    max: float


@dataclass(slots=True)
class FeedbackRead:
    """One piece of feedback as it was stored."""

    id: UUID
    source: Annotated[str, Field(description="CloudEvents source of the event that brought it")]
    event_id: Annotated[str, Field(description="CloudEvents id of the event that brought it")]
    occurred_at: datetime
    recorded_at: Annotated[datetime, Field(description="when the gateway took it in")]
    backfill: Annotated[bool, Field(description="imported history")]
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
"""A row as it is answered."""


class FeedbackQuery(PageQuery):
    """Filters of the list of feedback; all given ones must match, each with one of its values."""

    kind: Several[FeedbackKind] = Field([], description="repeat for several, as every filter that is a list")
    channel: Several[Channel] = Field([])
    customer_id: Several[Identifier] = Field([])
    survey_id: Several[Identifier] = Field([])
    product: Several[Label] = Field([])
    journey_stage: Several[Label] = Field([])
    language: Several[Language] = Field([], description="exactly as it was sent", examples=[["pt-BR"]])
    min_score: Finite | None = Field(None, description="on the scale it was asked on: best together with `kind`")
    max_score: Finite | None = None

    def selection(self, compared: Mapping[tuple[str, str], Any] | None = None) -> Selection:
        """The rows asked for; the bounds of the score, too."""
        scores = {("score_value", ">="): self.min_score, ("score_value", "<="): self.max_score}
        return super().selection({**scores, **(compared or {})})
