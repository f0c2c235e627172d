"""Events of escalation-svc: cases that a person must handle, and SLA clocks of tickets.

Each event contains the full state of its case or clock, so the latest event is enough to rebuild it.
"""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from touchpoint.contracts import topics
from touchpoint.contracts.base import Event, Identifier, Label, LongText, Moment, Name, Vocabulary, example
from touchpoint.contracts.touchpoints import Priority

Version = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
"""Version of a case or clock, counted up by each change: a higher one is later, an equal one is a duplicate."""


class EscalationReason(Vocabulary):
    """Why a case was opened."""

    DETRACTOR = "detractor"
    LOW_RATING = "low_rating"
    URGENT_TICKET = "urgent_ticket"
    FIRST_RESPONSE_BREACHED = "first_response_breached"


class EscalationState(Vocabulary):
    """State of a case."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class SlaMetric(Vocabulary):
    """What an SLA clock measures."""

    FIRST_RESPONSE = "first_response"


class _Case(Event):
    topic: ClassVar[str] = topics.ESCALATIONS

    escalation_id: UUID = Field(description="id of the case")
    case_version: Version = Field(description="version of the case, counted up by each change")
    customer_id: Identifier | None = Field(None, description="id of the customer; absent for anonymous feedback")
    reason: EscalationReason = Field(description="why the case was opened")
    policy: Label = Field(description="name of the policy that opened the case")
    priority: Priority = Field(description="priority of the case")
    state: EscalationState = Field(description="current state of the case")
    feedback_id: UUID | None = Field(None, description="id of the feedback that caused the case")
    ticket_id: Identifier | None = Field(None, description="id of the ticket that caused the case")
    opened_at: Moment = Field(description="when the cause of the case occurred")
    acknowledged_at: Moment | None = Field(None, description="when the case was acknowledged")
    acknowledged_by: Name | None = Field(None, description="who acknowledged the case")
    resolved_at: Moment | None = Field(None, description="when the case was resolved")
    resolved_by: Name | None = Field(None, description="who resolved the case")
    resolution: LongText | None = Field(None, description="how the case was resolved")

    @property
    def partition_key(self) -> str:
        """`tenant:customer`; without a customer `tenant:case`, so that the events of a case stay in order."""
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
    """A case was opened that a person must handle."""

    model_config = ConfigDict(json_schema_extra=example(**_OPENED))
    type: ClassVar[str] = "escalation.opened"


class EscalationAcknowledged(_Case):
    """A person has acknowledged a case, that is, taken it on."""

    model_config = ConfigDict(json_schema_extra=example(**_ACKNOWLEDGED))
    type: ClassVar[str] = "escalation.acknowledged"


class EscalationResolved(_Case):
    """A person has resolved a case."""

    model_config = ConfigDict(json_schema_extra=example(**_RESOLVED))
    type: ClassVar[str] = "escalation.resolved"


class _Clock(Event):
    topic: ClassVar[str] = topics.ESCALATIONS

    clock_id: UUID = Field(description="id of the SLA clock")
    clock_version: Version = Field(description="version of the clock, counted up by each change")
    metric: SlaMetric = Field(description="what the clock measures")
    ticket_id: Identifier = Field(description="id of the ticket the clock runs for")
    customer_id: Identifier = Field(description="id of the ticket's customer")
    priority: Priority = Field(description="priority of the ticket, which determines the target")
    target_seconds: Annotated[int, Field(strict=True, ge=1, le=31_622_400)] = Field(
        description="target: time allowed, in seconds"
    )
    started_at: Moment = Field(description="when the clock started")
    due_at: Moment = Field(description="when the clock expires")


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
    """An SLA clock will expire soon."""

    model_config = ConfigDict(json_schema_extra=example(clock_version=2, **_CLOCK))
    type: ClassVar[str] = "sla.warned"


class SlaBreached(_Clock):
    """An SLA clock has expired: the ticket missed its target, such as a first response in time."""

    model_config = ConfigDict(json_schema_extra=example(clock_version=3, **_CLOCK))
    type: ClassVar[str] = "sla.breached"
