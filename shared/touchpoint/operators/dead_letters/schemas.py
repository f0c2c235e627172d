"""Request and response schemas of the routes on dead letters."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from touchpoint.contracts.base import Identifier
from touchpoint.db.dead_letters import MOST, Selection
from touchpoint.http.pagination import Bound, encode
from touchpoint.operators.replays.schemas import ReplayRead
from touchpoint.operators.schemas import Consumer, Listed, PageQuery, Rate, Reason, Strict

Offset = Annotated[int, Field(ge=0, lt=2**63)]
State = Literal["open", "redriven", "discarded"]


class Filter(Strict):
    """Filter of dead letters; a field left out matches all."""

    fingerprint: Identifier | None = Field(
        None, description="only those with this cause", examples=["3f1c6a0d9be24c11"]
    )
    type: Identifier | None = Field(None, examples=["feedback.submitted"])
    tenant: Identifier | None = None
    customer: Identifier | None = None
    since: Bound | None = Field(None, description="first failed at this time or later")
    until: Bound | None = Field(None, description="first failed before this time")


class CausesQuery(Filter):
    """Which dead letters to count."""

    consumer: Consumer | None = None

    @property
    def selection(self) -> Selection:
        """The filter for the SQL query; matches dead letters in any state."""
        return Selection(**self.model_dump(), state=None)


class DeadLettersQuery(CausesQuery, PageQuery):
    """Which dead letters to list."""

    state: Literal[State, "any"] = "open"

    @property
    def selection(self) -> Selection:
        """The filter for the SQL query. Its limit is one above the page size, to see whether there is a next page."""
        given = self.model_dump(exclude={"cursor"})
        return Selection(**given | {"state": None if self.state == "any" else self.state, "limit": self.limit + 1})


class Discard(Filter):
    """Which open dead letters to discard."""

    consumer: Consumer
    limit: int = Field(MOST, ge=1, le=MOST, strict=True, description="maximum number; those that failed first")
    execute: bool = Field(False, strict=True, description="true: do it; false: a dry run that changes nothing")
    reason: Reason | None = Field(None, validate_default=True)

    @field_validator("reason")
    @classmethod
    def _required(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is None and info.data.get("execute"):
            raise ValueError("is required if execute is true")
        return reason

    @property
    def selection(self) -> Selection:
        """The filter for the SQL query; matches open dead letters only."""
        return Selection(**self.model_dump(include={*Filter.model_fields, "consumer", "limit"}))


class Redrive(Discard):
    """Which open dead letters to redrive."""

    rate: Rate | None = Field(None, description="maximum events per second; left out: no limit")


class Cause(BaseModel):
    """The dead letters of one consumer with the same cause, counted."""

    consumer: str
    fingerprint: str
    type: str | None
    stage: str = Field(description="where it failed: read, decode, validate or handle")
    error: str
    reason: str
    open: int
    redriven: int
    discarded: int
    tenants: int
    customers: int
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    example: str = Field(description="one of them, as topic/partition/offset", examples=["touchpoints.v1/3/1042"])


class DeadLetterRead(Listed):
    """An event that a consumer could not handle."""

    consumer: str
    topic: str
    partition: int
    offset: int
    event_id: UUID | None
    tenant_id: str | None
    customer_id: str | None
    type: str | None
    stage: str = Field(description="where it failed: read, decode, validate or handle")
    error: str
    reason: str
    fingerprint: str
    state: State
    attempt: int
    consumer_version: str | None
    traceparent: str | None
    failed_at: datetime = Field(description="time of the first failure")
    closed_at: datetime | None
    closed_reason: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The dead letter for a row of the table `dead_letters`."""
        place = f"{row['consumer']}/{row['topic']}/{row['partition']}/{row['offset']}"
        return cls(cursor=encode(row["failed_at"], place), **row)


class RecordRead(BaseModel):
    """A Kafka record. Bytes that are not UTF-8 are replaced."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: dict[str, str]
    value: str


class PlaceRead(BaseModel):
    """One offset of the log: a consumer's dead letter, the event, and the customer's neighbouring events."""

    dead_letter: DeadLetterRead | None = Field(description="null: this consumer has no dead letter at this offset")
    event: RecordRead | None = Field(description="null: Kafka's retention has deleted it")
    neighbours: list[RecordRead] = Field(
        description="up to five records before and five after it with the same key, in log order"
    )


class DiscardedRead(BaseModel):
    """The dead letters that were discarded, or with a dry run would be."""

    executed: bool
    matching: int
    causes: list[Cause] = Field(description="the causes of the dead letters that matched")


class RedrivenRead(DiscardedRead):
    """The dead letters that are redriven, or with a dry run would be."""

    replay: ReplayRead | None = Field(description="the replay that redrives them; null if nothing is redriven")
