"""What escalation-svc has to say: cases that need a person, and the clocks that run for a ticket.

Each event carries the full state, so that folding this topic rebuilds the service's decisions.
"""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from touchpoint.contracts import topics
from touchpoint.contracts.base import Event, Identifier, Label, LongText, Moment, Name, Vocabulary, example
from touchpoint.contracts.touchpoints import Priority

Version = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
"""Counts an aggregate's changes: the higher one is the later one, a repeated one is a duplicate."""


class EscalationReason(Vocabulary):
    """Why a person is needed."""

    DETRACTOR = "detractor"
    LOW_RATING = "low_rating"
    URGENT_TICKET = "urgent_ticket"
    FIRST_RESPONSE_BREACHED = "first_response_breached"


class EscalationState(Vocabulary):
    """How far a case has come."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class SlaMetric(Vocabulary):
    """What a clock measures."""

    FIRST_RESPONSE = "first_response"


class _Case(Event):
    topic: ClassVar[str] = topics.ESCALATIONS

    escalation_id: UUID = Field(description="the case")
    case_version: Version = Field(description="counts the changes of this case")
    customer_id: Identifier | None = Field(None, description="the customer it is about")
    reason: EscalationReason = Field(description="why a person is needed")
    policy: Label = Field(description="the policy that opened it")
    priority: Priority = Field(description="how urgent it is")
    state: EscalationState = Field(description="how far it has come")
    feedback_id: UUID | None = Field(None, description="the feedback that caused it")
    ticket_id: Identifier | None = Field(None, description="the ticket that caused it")
    opened_at: Moment = Field(description="when its cause occurred")
    acknowledged_at: Moment | None = Field(None, description="when someone took it on")
    acknowledged_by: Name | None = Field(None, description="who took it on")
    resolved_at: Moment | None = Field(None, description="when it was settled")
    resolved_by: Name | None = Field(None, description="who settled it")
    resolution: LongText | None = Field(None, description="how it was settled")

    @property
    def partition_key(self) -> str:
        """`tenant:customer`; without a customer the case stands for it, so that its events stay in order."""
        return f"{self.meta.tenant}:{self.customer_id or self.escalation_id}"


_OPENED: dict[str, Any] = {
    "escalation_id": "6f0a9d2e-7d6c-5b38-8f0c-2f6f2a7f9c01",
    "case_version": 1,
    "customer_id": "C-1042",
    "reason": "detractor",
    "policy": "detractors",
    "priority": "high",
    "state": "open",
    "feedback_id": "0f8a2f0e-6a0c-5d0b-9c5a-3c1f3f6f4f11",
    "opened_at": "2026-11-22T09:30:00Z",
}
_ACKNOWLEDGED = _OPENED | {
    "case_version": 2,
    "state": "acknowledged",
    "acknowledged_at": "2026-11-22T09:41:00Z",
    "acknowledged_by": "maria.lopez",
}
_RESOLVED = _ACKNOWLEDGED | {
    "case_version": 3,
    "state": "resolved",
    "resolved_at": "2026-11-22T11:05:00Z",
    "resolved_by": "maria.lopez",
    "resolution": "Called back, replacement sent by courier.",
}


class EscalationOpened(_Case):
    """A case needs a person."""

    model_config = ConfigDict(json_schema_extra=example(**_OPENED))
    type: ClassVar[str] = "escalation.opened"


class EscalationAcknowledged(_Case):
    """Someone has taken a case on."""

    model_config = ConfigDict(json_schema_extra=example(**_ACKNOWLEDGED))
    type: ClassVar[str] = "escalation.acknowledged"


class EscalationResolved(_Case):
    """A case is settled."""

    model_config = ConfigDict(json_schema_extra=example(**_RESOLVED))
    type: ClassVar[str] = "escalation.resolved"


class _Clock(Event):
    topic: ClassVar[str] = topics.ESCALATIONS

    clock_id: UUID = Field(description="the clock")
    clock_version: Version = Field(description="counts the changes of this clock")
    metric: SlaMetric = Field(description="what it measures")
    ticket_id: Identifier = Field(description="the ticket it runs for")
    customer_id: Identifier = Field(description="whose ticket it is")
    priority: Priority = Field(description="the ticket's priority, which set the target")
    target_seconds: Annotated[int, Field(strict=True, ge=1, le=31_622_400)] = Field(description="time allowed, seconds")
    started_at: Moment = Field(description="when it started")
    due_at: Moment = Field(description="when it runs out")


_CLOCK: dict[str, Any] = {
    "clock_id": "f2c1b0aa-5d3e-5a55-9a34-1f9b8f1b7a10",
    "metric": "first_response",
    "ticket_id": "T-7001",
    "customer_id": "C-1042",
    "priority": "high",
    "target_seconds": 3600,
    "started_at": "2026-11-22T09:30:00Z",
    "due_at": "2026-11-22T10:30:00Z",
}


class SlaWarned(_Clock):
    """A clock will soon run out."""

    model_config = ConfigDict(json_schema_extra=example(clock_version=2, **_CLOCK))
    type: ClassVar[str] = "sla.warned"


class SlaBreached(_Clock):
    """A clock ran out before what it waits for happened."""

    model_config = ConfigDict(json_schema_extra=example(clock_version=3, **_CLOCK))
    type: ClassVar[str] = "sla.breached"
