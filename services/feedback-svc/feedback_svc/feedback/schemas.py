"""What the API takes and answers about feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field

from touchpoint.contracts.base import Identifier, Label
from touchpoint.contracts.touchpoints import Channel, FeedbackKind, Language
from touchpoint.http.pagination import PageQuery, Several

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

    @classmethod
    def of(cls, row: Sequence[Any]) -> Self:
        """What a row says: the fields in their order, the score's three apart."""
        score = None if row[9] is None else ScoreRead(*row[9:12])
        return cls(*(*row[:9], score, *row[12:]))


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
