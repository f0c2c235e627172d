"""What the operators' routes take and answer. Words and defaults are those of the commands."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from touchpoint.contracts.base import Identifier
from touchpoint.contracts.quick import NO_NUL
from touchpoint.db.dead_letters import MOST, Selection
from touchpoint.db.replays import MAX_ERRORS, Replay
from touchpoint.errors import UsageError
from touchpoint.http.errors import Problem
from touchpoint.http.pagination import Bound, encode
from touchpoint.kafka.replay import selection as records

T = TypeVar("T")

Consumer = Annotated[
    Identifier, Field(description="the consumer, which is named as its service", examples=["feedback-svc"])
]
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=NO_NUL),
    Field(description="why; kept in the trail", examples=["mended in 0.4.1, OPS-77"]),
]
Rate = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Errors = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Offset = Annotated[int, Field(ge=0, lt=2**63)]
PartitionNumber = Annotated[int, Field(ge=0, lt=2**31)]
State = Literal["open", "redriven", "discarded"]


class _Strict(BaseModel):
    """A name that does not exist is refused: a misspelt filter would match everything."""

    model_config = ConfigDict(extra="forbid")


class Unanswered(BaseModel):
    """A service whose part is missing, and why."""

    service: str = Field(examples=["metrics-svc"])
    problem: Problem


class Entries(BaseModel, Generic[T]):
    """Part of a list, of all services asked."""

    items: list[T]
    next_cursor: str | None = Field(None, description="for the next page; null on the last one")
    unanswered: list[Unanswered] = Field([], description="services that gave no answer: their items are missing here")


class PageQuery(_Strict):
    """Which part of a list."""

    limit: int = Field(50, ge=1, le=200, description="items a page")
    cursor: str | None = Field(None, max_length=500, description="`next_cursor` of the page before")


class _Listed(BaseModel):
    """What stands in a list that has pages."""

    cursor: str = Field(description="its place in its list: given as `cursor`, the list goes on behind it")


class ConsumerRead(BaseModel):
    """A consumer, and whether it works."""

    consumer: str = Field(examples=["feedback-svc"])
    state: str = Field(description="running; paused by a person; halted by itself", examples=["running"])
    reason: str | None
    since: datetime | None
    partitions: int
    last_applied_at: datetime | None
    dead_letters: int = Field(description="open ones")


class Pause(_Strict):
    """Why a consumer is to stop."""

    reason: Reason


class Resume(_Strict):
    """Why a consumer is to go on."""

    reason: Reason
    skip: int = Field(
        0, ge=0, le=1_000_000, strict=True, description="let each of its processes make so many dead letters first"
    )


class ConsumerChanged(BaseModel):
    """A consumer's state, before and now."""

    consumer: str
    before: str = Field(examples=["halted"])
    state: str = Field(examples=["running"])


class Filter(_Strict):
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

    state: State | Literal["any"] = "open"

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


class DeadLetterRead(_Listed):
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

    replay: "ReplayRead | None" = Field(description="that does it; null where nothing is done")


def _readable(words: list[str]) -> list[str]:
    try:
        records.Bound.of(words)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return words


Bounds = Annotated[list[Identifier], Field(max_length=1000), AfterValidator(_readable)]
"""A time, and places in the log."""


class Plan(_Strict):
    """A window of the log that a consumer's handlers are to be given again."""

    consumer: Consumer
    since: Bounds = Field(
        alias="from",
        min_length=1,
        description="a time (when Kafka took it in), and places that count for their partitions instead of it",
        examples=[["2026-11-22T12:00:00Z"], ["touchpoints.v1/3/1200"]],
    )
    until: Bounds = Field([], alias="to", description="up to here; left out: all that the consumer has read")
    type: list[Identifier] = Field([], max_length=100, description="of these types")
    tenant: Identifier | None = None
    customer: Identifier | None = None
    partition: list[Annotated[PartitionNumber, Field(strict=True)]] = Field(
        [], max_length=1000, description="in these partitions"
    )

    @property
    def window(self) -> records.Window:
        """From where to where."""
        return records.Window(records.Bound.of(self.since), records.Bound.of(self.until), tuple(self.partition))

    @property
    def selection(self) -> records.Selection:
        """Which of the records there."""
        return records.Selection(tuple(self.type), self.tenant, self.customer)


class ReplaysQuery(PageQuery):
    """Which replays to list."""

    consumer: Consumer | None = None


class Run(_Strict):
    """How a plan is to be carried out."""

    reason: Reason
    rate: Rate | None = Field(None, description="events a second at most; left out: as many as go")
    max_errors: Errors = Field(MAX_ERRORS, description="stop at the next failure after so many")


class Continue(_Strict):
    """How a replay is to go on."""

    reason: Reason
    rate: Rate | None = Field(None, description="left out: as it was")
    max_errors: Errors | None = Field(None, description="left out: as it was")


class Stop(_Strict):
    """Why a replay is to stop."""

    reason: Reason


class ReplayRead(_Listed):
    """A plan or a replay as it stands. matched = applied + already_applied + failed + erased."""

    id: UUID
    consumer: str
    kind: str = Field(description="repair: a window; redrive: dead letters")
    state: str = Field(description="planned, running, paused, aborted, done or failed")
    filter: Mapping[str, Any]
    summary: Mapping[str, Any] = Field(description="what the plan counted")
    plan_hash: str = Field(description="equal for plans that mean the same records")
    cluster_id: str
    rate: int | None
    max_errors: int
    reason: str | None
    planned_by: str
    requested_by: str | None
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    matched: int
    applied: int
    already_applied: int
    failed: int
    erased: int
    passed: int = Field(description="records behind it, of `length`")
    length: int
    records_per_second: float

    @classmethod
    def of(cls, replay: Replay) -> Self:
        """A replay that was found or changed."""
        return cls(cursor=encode(replay.planned_at, replay.id), **asdict(replay))


class AuditQuery(PageQuery):
    """Which lines of the trail to list."""

    consumer: Consumer | None = None
    since: Bound | None = Field(None, description="of this time or later")


class AuditLine(_Listed):
    """What an operator did, or a worker for one."""

    at: datetime
    who: str = Field(examples=["key:3f9c02ab71de (night shift)", "ann@bastion"])
    action: str = Field(examples=["replay.run"])
    subject: str = Field(description="the consumer it was done to")
    reason: str | None
    plan_id: UUID | None
    plan_hash: str | None
    matched: int | None
    applied: int | None
    already_applied: int | None
    failed: int | None
    erased: int | None
    details: Mapping[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A line as the trail has it."""
        return cls(cursor=encode(row["at"], row["place"]), **row)
