"""Request and response schemas of the routes on replays and rebuilds."""

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


def _readable(bounds: list[str]) -> list[str]:
    try:
        Bound.of(bounds)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return bounds


Bounds = Annotated[list[Identifier], Field(max_length=1000), AfterValidator(_readable)]
"""An end of a window: at most one time, and offsets (topic/partition/offset) that replace it in their partitions."""


class Plan(Strict):
    """Request to plan a replay of a window of the log."""

    consumer: Consumer
    since: Bounds = Field(
        alias="from",
        min_length=1,
        description="beginning of the window: a time (of the record in Kafka), and offsets as topic/partition/offset, "
        "which replace the time in their partitions",
        examples=[["2026-11-22T12:00:00Z"], ["touchpoints.v1/3/1200"]],
    )
    until: Bounds = Field(
        [], alias="to", description="end of the window (exclusive), as `from`; left out: the consumer's position"
    )
    type: list[Identifier] = Field([], max_length=100, description="only events of these types")
    tenant: Identifier | None = None
    customer: Identifier | None = None
    partition: list[Annotated[PartitionNumber, Field(strict=True)]] = Field(
        [], max_length=1000, description="only records of these partitions"
    )

    @property
    def window(self) -> Window:
        """The window of the log."""
        return Window(Bound.of(self.since), Bound.of(self.until), tuple(self.partition))

    @property
    def selection(self) -> Selection:
        """The filter of the window's records."""
        return Selection(tuple(self.type), self.tenant, self.customer)


class ReplaysQuery(PageQuery):
    """Which replays to list."""

    consumer: Consumer | None = None


DropLost = Field(
    False,
    strict=True,
    description="swap even if the live tables hold the last copy of events that Kafka has lost, and delete it",
)


class Run(Strict):
    """Request to run a planned replay."""

    reason: Reason
    rate: Rate | None = Field(None, description="maximum events per second; left out: no limit")
    max_errors: Errors = Field(
        MAX_ERRORS, description="number of failed events allowed; at the next one the replay stops"
    )


class Rebuild(Run):
    """Request to rebuild a service's tables from the log."""

    consumer: Consumer
    swap: bool = Field(False, strict=True, description="swap as soon as the tables are built, whatever differs")
    drop_lost: bool = DropLost


class Continue(Strict):
    """Request to resume a replay."""

    reason: Reason
    rate: Rate | None = Field(None, description="maximum events per second; left out: unchanged")
    max_errors: Errors | None = Field(None, description="number of failed events allowed; left out: unchanged")


class Stop(Strict):
    """Request to pause or abort a replay."""

    reason: Reason


class Swap(Stop):
    """Request to replace the live tables by those of a rebuild."""

    drop_lost: bool = DropLost


class ReplayRead(Listed):
    """A plan or a replay and its progress. matched = applied + already_applied + failed + erased."""

    id: UUID
    consumer: str
    kind: str = Field(description="repair: of a window; redrive: of dead letters; rebuild: of all tables")
    state: str = Field(description="planned, running, paused, built, aborted, done or failed")
    filter: Mapping[str, Any]
    summary: Mapping[str, Any] = Field(description="the plan's counts; of a rebuild, how the live tables differ")
    plan_hash: str = Field(description="equal for plans of the same records")
    cluster_id: str
    rate: int | None
    max_errors: int
    swap: bool = Field(description="of a rebuild: the new tables are to replace the live ones")
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
    passed: int = Field(description="number of records already read, of `length`")
    length: int = Field(description="number of records to read")
    records_per_second: float

    @classmethod
    def of(cls, replay: Replay) -> Self:
        """The representation of a stored replay."""
        return cls(cursor=encode(replay.planned_at, replay.id), **asdict(replay))
