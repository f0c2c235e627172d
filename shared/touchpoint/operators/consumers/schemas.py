"""Request and response schemas of the routes on consumers."""

from datetime import datetime

from pydantic import BaseModel, Field

from touchpoint.operators.schemas import Reason, Strict


class ConsumerRead(BaseModel):
    """A consumer, its state, and whether a process of it is alive."""

    consumer: str = Field(examples=["feedback-svc"])
    state: str = Field(description="running; paused: by an operator; halted: stopped by itself", examples=["running"])
    reason: str | None
    since: datetime | None
    partitions: int
    last_applied_at: datetime | None
    dead_letters: int = Field(description="number of open dead letters")
    alive: bool = Field(description="whether a process of the consumer has reported within the last 8 seconds")
    last_reported_at: datetime | None = Field(
        description="when a process of the consumer last reported; null: none runs"
    )


class Pause(Strict):
    """Request to pause a consumer."""

    reason: Reason


class Resume(Strict):
    """Request to resume a consumer."""

    reason: Reason
    skip: int = Field(
        0,
        ge=0,
        le=1_000_000,
        strict=True,
        description="number of events each of its processes may write to the dead letters before it halts again",
    )
    past: str | None = Field(
        None,
        pattern=r"^[^/]{1,249}/[0-9]{1,9}/[0-9]{1,18}(-[0-9]{1,18})?$",
        description="skip these offsets, which the consumer cannot read: topic/partition/first-last",
        examples=["touchpoints.v1/3/1042-1049"],
    )
    accept_loss: list[str] = Field(
        [],
        max_length=10_000,
        description="continue without these records, which Kafka has lost: topic/partition/first-last, as in the 409",
        examples=[["touchpoints.v1/5/4801-4807"]],
    )


class ConsumerChanged(BaseModel):
    """A consumer's state before and after the change."""

    consumer: str
    before: str = Field(examples=["halted"])
    state: str = Field(examples=["running"])
