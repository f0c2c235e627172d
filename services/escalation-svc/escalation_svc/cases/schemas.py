"""What the API of escalation-svc takes and answers."""

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
    case_version: Annotated[int, Field(description="counts the case's changes, as its events do")]
    state: Annotated[str, Field(examples=["open"])]
    reason: Annotated[str, Field(examples=["detractor"])]
    policy: Annotated[str, Field(description="name of the policy that opened it", examples=["key-account-detractor"])]
    priority: Annotated[str, Field(examples=["high"])]
    customer_id: str | None
    feedback_id: Annotated[UUID | None, Field(description="the feedback that caused it, in /v1/feedback")]
    ticket_id: Annotated[str | None, Field(description="the ticket that caused it")]
    opened_at: Annotated[datetime, Field(description="when its cause occurred")]
    recorded_at: Annotated[datetime, Field(description="when the gateway accepted its cause, or its clock ran out")]
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


case_read = answers(EscalationRead, id=attrgetter("escalation_id"))
"""A row as it is answered."""


class ClockRead(BaseModel):
    """The first-response clock of a case's ticket."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID = Field(validation_alias="clock_id")
    state: str = Field(examples=["breached"], description="active, achieved, breached or cancelled")
    priority: str = Field(description="the ticket's; it chose the target", examples=["normal"])
    target_seconds: int
    started_at: datetime | None
    due_at: datetime | None
    warned: bool = Field(description="sla.warned was published")
    fulfilled_at: datetime | None = Field(description="an agent's first public reply, also when it came too late")


@dataclass(slots=True)
class EscalationDetail(EscalationRead):
    """A case with the clock of its ticket, if it is about one."""

    clock: ClockRead | None = None


detail_read = answers(EscalationDetail, id=attrgetter("escalation_id"), clock=lambda _: None)
"""A row as it is answered, without its ticket's clock."""


class EscalationQuery(PageQuery):
    """Filters of the list; all given ones must match, each with one of its values.

    `from` and `to`: when the case was opened; `recorded_from` and `recorded_to`: when the gateway accepted its cause
    or, where a clock ran out, when it did.
    """

    state: Several[EscalationState] = Field([], description="repeat for several, as every filter that is a list")
    reason: Several[EscalationReason] = Field([])
    priority: Several[Priority] = Field([])
    customer_id: Several[Identifier] = Field([])
    ticket_id: Several[Identifier] = Field([])


class Acknowledgement(BaseModel):
    """Who takes a case on."""

    model_config = ConfigDict(extra="forbid")

    by: Person | None = Field(None, description="who does it, when the API key is not that person's own")


class Resolution(Acknowledgement):
    """Who settled a case, and how."""

    resolution: LongText | None = None
