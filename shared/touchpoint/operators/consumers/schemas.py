"""What the routes on consumers take and answer."""

from datetime import datetime

from pydantic import BaseModel, Field

from touchpoint.operators.schemas import Reason, Strict


class ConsumerRead(BaseModel):
    """A consumer, and whether it works."""

    consumer: str = Field(examples=["feedback-svc"])
    state: str = Field(description="running; paused by a person; halted by itself", examples=["running"])
    reason: str | None
    since: datetime | None
    partitions: int
    last_applied_at: datetime | None
    dead_letters: int = Field(description="open ones")
    alive: bool = Field(description="whether a process of it has reported within the last 8 seconds")
    last_reported_at: datetime | None = Field(description="when a process of it reported last; null: none runs")


class Pause(Strict):
    """Why a consumer is to stop."""

    reason: Reason


class Resume(Strict):
    """Why a consumer is to go on."""

    reason: Reason
    skip: int = Field(
        0, ge=0, le=1_000_000, strict=True, description="let each of its processes make so many dead letters first"
    )
    past: str | None = Field(
        None,
        pattern=r"^[^/]{1,249}/[0-9]{1,9}/[0-9]{1,18}(-[0-9]{1,18})?$",
        description="go on behind these offsets, which it cannot read: topic/partition/first-last",
        examples=["touchpoints.v1/3/1042-1049"],
    )
    accept_loss: list[str] = Field(
        [],
        max_length=10_000,
        description="go on without these records, which Kafka has lost: topic/partition/first-last, as the 409 names",
        examples=[["touchpoints.v1/5/4801-4807"]],
    )


class ConsumerChanged(BaseModel):
    """A consumer's state, before and now."""

    consumer: str
    before: str = Field(examples=["halted"])
    state: str = Field(examples=["running"])
