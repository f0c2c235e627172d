"""Request parameters and response bodies of the timeline API."""

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

    id: Annotated[UUID, Field(description="identity of the event; for feedback also its id in /v1/feedback")]
    type: Annotated[str, Field(examples=["ticket.opened"])]
    occurred_at: datetime
    recorded_at: Annotated[
        datetime, Field(description="when the gateway accepted it; for SLA events, when the clock ran out")
    ]
    title: Annotated[
        str, Field(description="one line for people to read", examples=["Ticket 4711 opened: Invoice is wrong"])
    ]
    details: Annotated[
        Any,
        WithJsonSchema({"type": "object", "additionalProperties": True}),
        Field(description="the event's data; long texts are cut and end in …"),
    ]


entry_read = answers(TimelineEntryRead, details=lambda entry: msgspec.Raw(entry.details.encode()))
"""Converts a row to its response item; `details` is stored as JSON and passed on without decoding."""

_TYPES = sorted(event.type for event in TITLES)


def _known_type(event_type: str) -> str:
    if event_type not in _TYPES:
        raise ValueError("is not a type of event that timelines have")
    return event_type


TimelineType = Annotated[str, AfterValidator(_known_type), WithJsonSchema({"type": "string", "enum": _TYPES})]


class TimelineQuery(PageQuery):
    """Filters of a customer's timeline."""

    type: Several[TimelineType] = Field([], description="types of events to match; repeat the parameter for several")
