"""What the API takes and answers about timelines."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import AfterValidator, Field, WithJsonSchema

from feedback_svc.timeline.service import TITLES
from touchpoint.http.pagination import PageQuery, Several, answers


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


entry_read = answers(TimelineEntryRead, details=lambda entry: msgspec.Raw(entry.details.encode()))
"""A row as it is answered; its details are JSON, passed on as it is."""

_ON_TIMELINES = sorted(event.type for event in TITLES)


def _on_timelines(kind: str) -> str:
    if kind not in _ON_TIMELINES:
        raise ValueError("no event of this type is on a timeline")
    return kind


TimelineType = Annotated[str, AfterValidator(_on_timelines), WithJsonSchema({"type": "string", "enum": _ON_TIMELINES})]


class TimelineQuery(PageQuery):
    """Filters of a customer's timeline."""

    type: Several[TimelineType] = Field([], description="only these types of events; repeat for several")
