"""What the routes on dead letters take and answer."""

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
    """Which dead letters."""

    fingerprint: Identifier | None = Field(None, description="of this cause", examples=["3f1c6a0d9be24c11"])
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
        """In any state."""
        return Selection(**self.model_dump(), state=None)


class DeadLettersQuery(CausesQuery, PageQuery):
    """Which dead letters to list."""

    state: Literal[State, "any"] = "open"

    @property
    def selection(self) -> Selection:
        """One more than a page has: it tells whether there is a next."""
        given = self.model_dump(exclude={"cursor"})
        return Selection(**given | {"state": None if self.state == "any" else self.state, "limit": self.limit + 1})


class Discard(Filter):
    """Which dead letters to give up on."""

    consumer: Consumer
    limit: int = Field(MOST, ge=1, le=MOST, strict=True, description="so many at most, those that failed first")
    execute: bool = Field(False, strict=True, description="do it; otherwise it is only told what would be done")
    reason: Reason | None = Field(None, validate_default=True)

    @field_validator("reason")
    @classmethod
    def _said(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is None and info.data.get("execute"):
            raise ValueError("say why, where execute is true")
        return reason

    @property
    def selection(self) -> Selection:
        """The open ones."""
        return Selection(**self.model_dump(include={*Filter.model_fields, "consumer", "limit"}))


class Redrive(Discard):
    """Which dead letters to try again."""

    rate: Rate | None = Field(None, description="events a second at most; left out: as many as go")


class Cause(BaseModel):
    """Dead letters of one consumer that failed for the same cause."""

    consumer: str
    fingerprint: str
    type: str | None
    stage: str = Field(description="decode, validate or handle")
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
    example: str = Field(description="a place in the log", examples=["touchpoints.v1/3/1042"])


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
    stage: str = Field(description="decode, validate or handle")
    error: str
    reason: str
    fingerprint: str
    state: State
    attempt: int
    consumer_version: str | None
    traceparent: str | None
    failed_at: datetime = Field(description="first")
    closed_at: datetime | None
    closed_reason: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A row of the index."""
        place = f"{row['consumer']}/{row['topic']}/{row['partition']}/{row['offset']}"
        return cls(cursor=encode(row["failed_at"], place), **row)


class RecordRead(BaseModel):
    """A record of the log. What is no UTF-8 is shown as what it may mean."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: dict[str, str]
    value: str


class PlaceRead(BaseModel):
    """What is at one place of the log, what a consumer could not do with it, and what else came from its customer."""

    dead_letter: DeadLetterRead | None = Field(description="null: this consumer has none here")
    event: RecordRead | None = Field(description="null: retention has dropped it")
    neighbours: list[RecordRead] = Field(description="up to five with the same key on each side, in log order")


class DiscardedRead(BaseModel):
    """What was given up on, or would be."""

    executed: bool
    matching: int
    causes: list[Cause] = Field(description="of those that matched")


class RedrivenRead(DiscardedRead):
    """What is tried again, or would be."""

    replay: ReplayRead | None = Field(description="that does it; null where nothing is done")
