"""Request parameters, request bodies and response bodies of the API of escalation-svc."""

from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from touchpoint.contracts.base import Identifier, LongText
from touchpoint.contracts.escalations import EscalationReason, EscalationState
from touchpoint.contracts.quick import NO_NUL
from touchpoint.contracts.touchpoints import Priority
from touchpoint.http.pagination import PageQuery, Several, answers

Person = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_NUL)]


@dataclass(slots=True)
class EscalationRead:
    """A case."""

    id: UUID
    case_version: Annotated[
        int, Field(description="starts at 1 and grows by 1 with each change; the same number as in the case's events")
    ]
    state: Annotated[str, Field(examples=["open"])]
    reason: Annotated[str, Field(examples=["detractor"])]
    policy: Annotated[str, Field(description="name of the policy that opened it", examples=["key-account-detractor"])]
    priority: Annotated[str, Field(examples=["high"])]
    customer_id: str | None
    feedback_id: Annotated[UUID | None, Field(description="the feedback that caused it, in /v1/feedback")]
    ticket_id: Annotated[str | None, Field(description="the ticket that caused it")]
    opened_at: Annotated[datetime, Field(description="when its cause occurred")]
    recorded_at: Annotated[
        datetime, Field(description="when the gateway accepted its cause; for a breach, when the clock ran out")
    ]
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


case_read = answers(EscalationRead, id=attrgetter("escalation_id"))
"""Converts a row to its response item."""


class ClockRead(BaseModel):
    """The first-response clock of a case's ticket."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID = Field(validation_alias="clock_id")
    state: str = Field(examples=["breached"], description="active, achieved, breached or cancelled")
    priority: str = Field(description="priority of the ticket, which determines the target", examples=["normal"])
    target_seconds: int
    started_at: datetime | None
    due_at: datetime | None
    warned: bool = Field(description="whether sla.warned was published")
    fulfilled_at: datetime | None = Field(description="time of an agent's first public reply, even if it was too late")


@dataclass(slots=True)
class EscalationDetail(EscalationRead):
    """A case with the clock of its ticket; `clock` is null if the case is not about a ticket."""

    clock: ClockRead | None = None


detail_read = answers(EscalationDetail, id=attrgetter("escalation_id"), clock=lambda _: None)
"""Converts a row to a response body, without the clock of its ticket."""


class EscalationQuery(PageQuery):
    """Filters of the case list. A case must match every filter; it matches a filter if it has one of its values.

    `from` and `to` filter by `opened_at`; `recorded_from` and `recorded_to` by `recorded_at`, when the gateway accepted
    the case's cause or, for a breach, when the clock ran out.
    """

    state: Several[EscalationState] = Field(
        [], description="repeat the parameter to match any of several values, as with every list filter"
    )
    reason: Several[EscalationReason] = Field([])
    priority: Several[Priority] = Field([])
    customer_id: Several[Identifier] = Field([])
    ticket_id: Several[Identifier] = Field([])


class Acknowledgement(BaseModel):
    """Body of an acknowledgement: the person who takes the case."""

    model_config = ConfigDict(extra="forbid")

    by: Person | None = Field(None, description="name of the person who acts, if the API key is not their own")


class Resolution(Acknowledgement):
    """Body of a resolution: the person who resolved the case, and how."""

    resolution: LongText | None = None
