"""Answers metric queries from the counts."""

from itertools import product

from pydantic import TypeAdapter

from metrics_svc.catalogue.service import Metric
from metrics_svc.counting.service import Count, read_counts
from metrics_svc.queries import answers, errors
from metrics_svc.queries.periods import OffTheQuarterError, Period, TooManyPeriodsError, periods
from metrics_svc.queries.schemas import MOST_ITEMS, MetricAnswer, MetricQuery
from touchpoint.db.tenants import Tenants

ANSWER: TypeAdapter[MetricAnswer] = TypeAdapter(MetricAnswer)


async def answer(tenants: Tenants, tenant: str, metric: Metric, query: MetricQuery) -> MetricAnswer:
    """The items of a metric for each period and group asked for. Raises ProblemError when they are too many."""
    spans = _periods(query)
    starts = [span.start for span in spans]
    counts = await read_counts(
        tenants, tenant, metric, starts, query.to, group_by=query.group_by, where=query.where, limit=MOST_ITEMS + 1
    )
    kinds = sorted({(count.group, count.scale) for count in counts}) or ([] if query.group_by else [((), "")])
    if len(counts) > MOST_ITEMS or len(spans) * len(kinds) > MOST_ITEMS:
        raise errors.too_many_items()
    by_place = {(count.period, count.group, count.scale): count for count in counts}
    items = [
        answers.item(
            metric,
            span,
            dict(zip(query.group_by, group, strict=True)),
            by_place.get((number, group, scale), Count(number, scale, group, {}, 0)),
        )
        for (number, span), (group, scale) in product(enumerate(spans), kinds)
    ]
    asked = query.model_dump(include={"from_", "to", "interval", "timezone", "group_by"})
    return ANSWER.validate_python({"metric": metric, **asked, "items": items})


def _periods(query: MetricQuery) -> list[Period]:
    try:
        return periods(query.from_, query.to, query.interval, query.timezone, MOST_ITEMS)
    except TooManyPeriodsError:
        raise errors.too_many_items() from None
    except OffTheQuarterError:
        raise errors.zone_off_the_quarter(query.timezone.key) from None
