"""Requests and answers about the status of events."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from gateway.ingest.service import MAX_ID
from touchpoint.contracts.sources import MAX_LENGTH
from touchpoint.http.status import MAX_EVENTS


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
