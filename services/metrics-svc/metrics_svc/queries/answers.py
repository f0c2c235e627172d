"""Converts counts to the items of an answer, by pure functions."""

from collections.abc import Callable
from typing import Any

from metrics_svc.catalogue.service import EASE_SCALE, NPS_SCALE, Dimension, Metric, Scale
from metrics_svc.counting.service import Count, Sketch
from metrics_svc.queries import formulas
from metrics_svc.queries.periods import Period
from metrics_svc.queries.schemas import Bounds, CesItem, CsatItem, DurationItem, Item, NpsItem

Head = dict[str, Any]
"""The fields that all items have: start, end, group, n."""


def nps(head: Head, count: Count) -> NpsItem:
    """Promoters 9–10, passives 7–8, detractors 0–6."""
    promoters, detractors = _between(count, 9, 10), _between(count, 0, 6)
    return NpsItem(
        **head,
        scale=str(NPS_SCALE),
        distribution=_distribution(count, NPS_SCALE),
        value=formulas.net(promoters, detractors, count.n),
        **_interval(formulas.net_interval(promoters, detractors, count.n), count.n, formulas.FEWEST_NET),
        promoters=promoters,
        passives=count.n - promoters - detractors,
        detractors=detractors,
    )


def csat(head: Head, count: Count) -> CsatItem:
    """The share of the scale's top boxes."""
    scale = _scale(count)
    satisfied = _between(count, scale.satisfied_from, scale.high) if scale else 0
    return CsatItem(
        **head,
        scale=count.scale or None,
        distribution=_distribution(count, scale),
        value=formulas.share(satisfied, count.n),
        **_interval(formulas.share_interval(satisfied, count.n), count.n, 1),
        satisfied=satisfied,
    )


def ces(head: Head, count: Count) -> CesItem:
    """The mean score on one scale, and two shares, which are null on scales other than 1-7."""
    scale = _scale(count)
    known = count.n if scale == EASE_SCALE else 0
    return CesItem(
        **head,
        scale=count.scale or None,
        distribution=_distribution(count, scale),
        value=formulas.mean(count.buckets),
        **_interval(formulas.mean_interval(count.buckets, *scale) if scale else None, count.n, formulas.FEWEST_MEAN),
        score_sum=count.total,
        agreeing_share=formulas.share(_between(count, 5, 7), known),
        easy_minus_difficult=formulas.net(_between(count, 6, 7), _between(count, 1, 3), known),
    )


def durations(head: Head, count: Count) -> DurationItem:
    """The median with its interval, the tail, and the exact mean."""
    sketch, ranks = Sketch(count.buckets), formulas.median_ranks(count.n)
    total_seconds = count.total / 1_000_000
    return DurationItem(
        **head,
        value=sketch.percentile(50),
        **_interval(
            formulas.Interval(sketch.at_rank(ranks[0]), sketch.at_rank(ranks[1])) if ranks else None,
            count.n,
            formulas.FEWEST_MEDIAN,
        ),
        total_seconds=total_seconds,
        mean_seconds=total_seconds / count.n if count.n else None,
        p90_seconds=sketch.percentile(90),
        p95_seconds=sketch.percentile(95),
        p99_seconds=sketch.percentile(99),
    )


ITEMS: dict[Metric, Callable[[Head, Count], Item]] = {
    Metric.NPS: nps,
    Metric.CSAT: csat,
    Metric.CES: ces,
    Metric.FIRST_RESPONSE: durations,
    Metric.RESOLUTION: durations,
}


def item(metric: Metric, period: Period, group: dict[Dimension, str], count: Count) -> Item:
    """The response item of one period and group."""
    return ITEMS[metric]({"start": period.start, "end": period.end, "group": group, "n": count.n}, count)


def _scale(count: Count) -> Scale | None:
    return Scale.parse(count.scale) if count.scale else None


def _between(count: Count, low: int, high: int) -> int:
    return sum(n for score, n in count.buckets.items() if low <= score <= high)


def _distribution(count: Count, scale: Scale | None) -> dict[int, int]:
    return {score: count.buckets.get(score, 0) for score in range(scale.low, scale.high + 1)} if scale else {}


def _interval(interval: formulas.Interval | None, n: int, fewest: int) -> dict[str, Any]:
    """The fields `interval_95` and, if there is no interval, `no_interval_because`."""
    if interval is not None:
        return {"interval_95": Bounds(low=interval.low, high=interval.high)}
    if n >= fewest:
        reason = "all answers are equal: the method would claim certainty"
    else:
        reason = f"{fewest} are needed, there are {n}" if n else "nothing was measured"
    return {"interval_95": None, "no_interval_because": reason}
