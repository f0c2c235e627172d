"""Requests and answers of the API. Times are in UTC, durations in seconds; without measurements a value is null."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from typing_extensions import TypeAliasType  # before Python 3.12

from metrics_svc.catalogue.service import Dimension, Metric, on_the_quarter
from metrics_svc.counting.service import RELATIVE_ACCURACY
from metrics_svc.queries.periods import Interval
from touchpoint.contracts.base import Label, refusal
from touchpoint.contracts.touchpoints import Channel
from touchpoint.http.pagination import Bound

MOST_ITEMS = 1_000
"""Periods times groups in one answer."""


def _split(given: object) -> object:
    """Split commas, so that `group_by=channel,tier` is the same as `group_by=channel&group_by=tier`."""
    return [word for item in given for word in str(item).split(",")] if isinstance(given, list) else given


def _known(given: object, read: ValidatorFunctionWrapHandler) -> ZoneInfo:
    try:
        zone: ZoneInfo = read(given)
    except ValidationError:
        raise refusal("unknown_zone", "must be a time zone of the IANA database, such as Europe/Berlin") from None
    return zone


class MetricQuery(BaseModel):
    """A metric query: time range, interval, grouping and filters."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: Bound = Field(
        alias="from",
        examples=["2026-11-01T00:00:00Z"],
        description="from when, included; a full quarter of an hour, with its offset from UTC",
    )
    to: Bound = Field(
        examples=["2026-11-22T00:00:00Z"],
        description="until when, excluded; a full quarter of an hour, with its offset from UTC",
    )
    interval: Interval = Field(
        Interval.TOTAL,
        description=f"how long a period is; total: the whole range. Periods × groups: {MOST_ITEMS} at most",
    )
    timezone: Annotated[ZoneInfo, WrapValidator(_known)] = Field(
        ZoneInfo("UTC"), description="IANA time zone that sets where hours, days, weeks and months begin"
    )
    group_by: Annotated[list[Dimension], BeforeValidator(_split)] = Field(
        [], description="an item for each value of these: comma-separated or repeated"
    )
    channel: list[Channel] = Field([], description="only these channels; repeat for several")
    segment: list[Label] = Field([], description="only customers of these segments; repeat for several")
    tier: list[Label] = Field([], description="only customers of these tiers; repeat for several")

    @field_validator("from_", "to")
    @classmethod
    def _full_quarter(cls, moment: datetime) -> datetime:
        if not on_the_quarter(moment):
            raise ValueError("metrics are kept by quarter of an hour: give minute 0, 15, 30 or 45")
        return moment

    @field_validator("to")
    @classmethod
    def _after_from(cls, end: datetime, info: ValidationInfo) -> datetime:
        start = info.data.get("from_")
        if start is not None and end <= start:
            raise ValueError("must be after from")
        return end

    @field_validator("group_by")
    @classmethod
    def _once_each(cls, dimensions: list[Dimension]) -> list[Dimension]:
        return list(dict.fromkeys(dimensions))

    @property
    def where(self) -> dict[Dimension, list[str]]:
        """The values to match, by dimension; a dimension without a filter is left out."""
        given = {
            Dimension.CHANNEL: [str(channel) for channel in self.channel],
            Dimension.SEGMENT: self.segment,
            Dimension.TIER: self.tier,
        }
        return {dimension: values for dimension, values in given.items() if values}


class Bounds(BaseModel):
    """A 95 % confidence interval, in the unit of the value."""

    low: float
    high: float


class Item(BaseModel):
    """One period of one group."""

    start: datetime = Field(description="when the period begins, included")
    end: datetime = Field(description="when the period ends, excluded")
    group: dict[Dimension, str] = Field(
        description="the value of each dimension in group_by; 'unknown' is a segment or tier that no event has given",
        examples=[{"channel": "email", "tier": "key"}],
    )
    n: int = Field(description="how many were measured: the denominator", examples=[10])
    value: float | None = Field(description="in the answer's unit; null when n is 0")
    interval_95: Bounds | None = Field(description="of the value; null where no_interval_because says why")
    no_interval_because: str | None = Field(
        None, description="why interval_95 is null", examples=["10 are needed, there are 4"]
    )


class ScoreItem(Item):
    """Scores on one scale; another scale is another item."""

    scale: str | None = Field(description="lowest to highest score; null where no answer tells it", examples=["1-5"])
    distribution: dict[int, int] = Field(
        description="score → answers, for each point of the scale", examples=[{1: 0, 2: 1, 3: 1, 4: 3, 5: 5}]
    )


class NpsItem(ScoreItem):
    """`value` is 100 · (promoters − detractors) / n; the interval is adjusted Wald (Rocks 2016), from n = 10 on."""

    promoters: int = Field(description="answers 9 and 10", examples=[6])
    passives: int = Field(description="answers 7 and 8", examples=[3])
    detractors: int = Field(description="answers 0 to 6", examples=[1])


class CsatItem(ScoreItem):
    """`value` is satisfied / n, from 0 to 1; the interval is Wilson's."""

    satisfied: int = Field(
        description="answers in the top two boxes of the scale; the top one on scales of fewer than five points",
        examples=[8],
    )


class CesItem(ScoreItem):
    """`value` is score_sum / n, on its scale; the interval is Student's t. Which end is good is up to the form."""

    score_sum: int = Field(description="sum of the scores: the numerator", examples=[57])
    agreeing_share: float | None = Field(description="answers 5 to 7 / n, from 0 to 1; null on scales other than 1-7")
    easy_minus_difficult: float | None = Field(
        description="100 · (answers 6 and 7 − answers 1 to 3) / n; null on scales other than 1-7"
    )


class DurationItem(Item):
    """`value` is the median, which few very long ones do not move; its interval comes from binomial ranks."""

    total_seconds: float = Field(description="exact sum: the numerator of the mean", examples=[36000.0])
    mean_seconds: float | None = Field(description="total_seconds / n, exact", examples=[3600.0])
    p90_seconds: float | None = Field(description="90 of 100 took no longer; within relative_error of the exact value")
    p95_seconds: float | None = Field(description="95 of 100 took no longer; within relative_error of the exact value")
    p99_seconds: float | None = Field(description="99 of 100 took no longer; within relative_error of the exact value")


T = TypeVar("T", bound=Item)


class _Answer(BaseModel, Generic[T]):
    model_config = ConfigDict(populate_by_name=True, json_schema_serialization_defaults_required=True)

    metric: Metric
    unit: str = Field(description="of value and its interval")
    from_: datetime = Field(alias="from")
    to: datetime
    interval: Interval
    timezone: ZoneInfo
    group_by: list[Dimension]
    items: list[T] = Field(description="by start, then group; a group has an item in each period, be it of n = 0")


class NpsAnswer(_Answer[NpsItem]):
    """Net Promoter Score."""

    metric: Literal[Metric.NPS] = Metric.NPS
    unit: Literal["points, -100 to 100"] = "points, -100 to 100"


class CsatAnswer(_Answer[CsatItem]):
    """Customer satisfaction."""

    metric: Literal[Metric.CSAT] = Metric.CSAT
    unit: Literal["share, 0 to 1"] = "share, 0 to 1"


class CesAnswer(_Answer[CesItem]):
    """Customer effort score."""

    metric: Literal[Metric.CES] = Metric.CES
    unit: Literal["points of the scale"] = "points of the scale"


class DurationAnswer(_Answer[DurationItem]):
    """First-response or resolution time, counted at the time of the response or the resolution."""

    metric: Literal[Metric.FIRST_RESPONSE, Metric.RESOLUTION]
    unit: Literal["seconds"] = "seconds"
    relative_error: float = Field(
        float(RELATIVE_ACCURACY), description="of value, its interval and the percentiles; sums and means are exact"
    )


MetricAnswer = TypeAliasType(
    "MetricAnswer", Annotated[NpsAnswer | CsatAnswer | CesAnswer | DurationAnswer, Field(discriminator="metric")]
)
"""One shape per metric; `metric` is the discriminator."""
