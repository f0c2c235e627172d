"""What the gateway's own routes answer."""

from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.events import MAX_ID
from touchpoint.contracts.sources import MAX_LENGTH
from touchpoint.http.errors import Problem
from touchpoint.http.status import MAX_EVENTS


class EventTaken(BaseModel):
    """Kafka has the event. `id` and `source` together are its name."""

    id: str = Field(examples=["4711"])
    source: str = Field(examples=["/crm/eu"])
    status_url: str = Field(description="tells what became of it", examples=["/v1/events/%2Fcrm%2Feu/4711"])


class FeedbackTaken(BaseModel):
    """Kafka has the feedback."""

    id: str = Field(description="of the event: as sent, else made up", examples=["form-88121"])
    feedback_id: UUID = Field(description="its id in /v1/feedback, once feedback-svc has stored it")
    status_url: str = Field(examples=["/v1/events/%2Ftouchpoint%2Fgateway%2Ffeedback/form-88121"])


class AcceptedItem(BaseModel):
    """An event of a batch that Kafka has."""

    index: int = Field(description="its place in the batch, from 0")
    id: str
    source: str


class RefusedItem(BaseModel):
    """An event of a batch that was not taken. Status 503 in its problem: send it again as it is."""

    index: int = Field(description="its place in the batch, from 0")
    id: str | None = Field(description="as far as it could be read")
    problem: Problem


class BatchReport(BaseModel):
    """What became of a batch, event by event, each in the order sent."""

    accepted: list[AcceptedItem]
    refused: list[RefusedItem]


class BatchRefused(Problem, BatchReport):
    """No event of the batch was accepted."""


class Status(StrEnum):
    """What a consumer did with an event."""

    APPLIED = "applied"
    PENDING = "pending"
    MISSING = "missing"
    DEAD_LETTERED = "dead-lettered"
    CONFLICT = "conflict"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


class ConsumerStatus(BaseModel):
    """An event in one consumer."""

    consumer: str = Field(examples=["feedback-svc"])
    status: Status = Field(
        description="applied; pending: accepted, but not reached yet; missing: passed without a trace, for an operator "
        "to replay; dead-lettered: failed, waits for an operator; conflict: refused, because its id was used before "
        "with another payload; ignored: not of a type this consumer handles; unknown: the consumer's service did not "
        "answer, or no consumer has the event and not all have read the whole log: ask again"
    )
    conflicting: bool = Field(description="another payload came under this id, too, and was refused")


class EventStatus(BaseModel):
    """What became of an event."""

    id: str
    source: str
    consumers: list[ConsumerStatus]


class EventName(BaseModel):
    """An event that was sent."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(min_length=1, max_length=MAX_LENGTH, examples=["/crm/eu"])
    id: str = Field(min_length=1, max_length=MAX_ID, examples=["4711"])


class EventNames(BaseModel):
    """Events whose statuses are asked for."""

    model_config = ConfigDict(extra="forbid")

    events: list[EventName] = Field(min_length=1, max_length=MAX_EVENTS)


class EventStatuses(BaseModel):
    """What became of several events."""

    items: list[EventStatus] = Field(description="in the order asked; `consumers` is empty for one never accepted")
