"""What the API of feedback-svc takes and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field, WithJsonSchema

from feedback_svc.service import TITLES
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


@dataclass(slots=True)
class TimelineEntryRead:
    """One touchpoint of a customer."""

    id: Annotated[UUID, Field(description="for feedback: its id in /v1/feedback")]
    type: Annotated[str, Field(examples=["ticket.opened"])]
    occurred_at: datetime
    recorded_at: Annotated[datetime, Field(description="when the gateway accepted it, or when a clock ran out")]
    title: Annotated[str, Field(description="one line for people", examples=["Ticket 4711 opened: Invoice is wrong"])]
    details: Annotated[
        Any,
        WithJsonSchema({"type": "object", "additionalProperties": True}),
        Field(description="the event's data; long texts are cut and end in …"),
    ]

    @classmethod
    def of(cls, row: Sequence[Any]) -> Self:
        """What a row says: the fields in their order, the details as JSON, which is passed on as it is."""
        return cls(*(*row[:5], msgspec.Raw(row[5].encode())))


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


_ON_TIMELINES = sorted(event.type for event in TITLES)


def _on_timelines(kind: str) -> str:
    if kind not in _ON_TIMELINES:
        raise ValueError("no event of this type is on a timeline")
    return kind


TimelineType = Annotated[str, AfterValidator(_on_timelines), WithJsonSchema({"type": "string", "enum": _ON_TIMELINES})]


class TimelineQuery(PageQuery):
    """Filters of a customer's timeline."""

    type: Several[TimelineType] = Field([], description="only these types of events; repeat for several")
