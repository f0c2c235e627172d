"""What the routes on replays take and answer."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from touchpoint.base.errors import UsageError
from touchpoint.contracts.base import Identifier
from touchpoint.db.replays import MAX_ERRORS, Replay
from touchpoint.http.pagination import encode
from touchpoint.operators.schemas import Consumer, Listed, PageQuery, PartitionNumber, Rate, Reason, Strict
from touchpoint.replay.selection import Bound, Selection, Window

Errors = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


def _readable(words: list[str]) -> list[str]:
    try:
        Bound.of(words)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return words


Bounds = Annotated[list[Identifier], Field(max_length=1000), AfterValidator(_readable)]
"""A time, and places in the log."""


class Plan(Strict):
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
    def window(self) -> Window:
        """From where to where."""
        return Window(Bound.of(self.since), Bound.of(self.until), tuple(self.partition))

    @property
    def selection(self) -> Selection:
        """Which of the records there."""
        return Selection(tuple(self.type), self.tenant, self.customer)


class ReplaysQuery(PageQuery):
    """Which replays to list."""

    consumer: Consumer | None = None


DropLost = Field(
    False, strict=True, description="swap although events that Kafka has lost are in the live tables only, and go"
)


class Run(Strict):
    """How a plan is to be carried out."""

    reason: Reason
    rate: Rate | None = Field(None, description="events a second at most; left out: as many as go")
    max_errors: Errors = Field(MAX_ERRORS, description="stop at the next failure after so many")


class Rebuild(Run):
    """Whose tables are to be made anew, and how."""

    consumer: Consumer
    swap: bool = Field(False, strict=True, description="put them in place at once, whatever differs")
    drop_lost: bool = DropLost


class Continue(Strict):
    """How a replay is to go on."""

    reason: Reason
    rate: Rate | None = Field(None, description="left out: as it was")
    max_errors: Errors | None = Field(None, description="left out: as it was")


class Stop(Strict):
    """Why a replay is to stop."""

    reason: Reason


class Swap(Stop):
    """Why a rebuild is to be put in place."""

    drop_lost: bool = DropLost


class ReplayRead(Listed):
    """A plan or a replay as it stands. matched = applied + already_applied + failed + erased."""

    id: UUID
    consumer: str
    kind: str = Field(description="repair: a window; redrive: dead letters; rebuild: all tables, made anew")
    state: str = Field(description="planned, running, paused, built, aborted, done or failed")
    filter: Mapping[str, Any]
    summary: Mapping[str, Any] = Field(description="what the plan counted; of a rebuild, how the live tables differ")
    plan_hash: str = Field(description="equal for plans that mean the same records")
    cluster_id: str
    rate: int | None
    max_errors: int
    swap: bool = Field(description="of a rebuild: it is to be put in the place of the live tables")
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
