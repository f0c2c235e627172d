from typing import Any

import pytest

from metrics_svc.catalogue.service import Dimension, Metric, Scale
from metrics_svc.counting.service import Count
from metrics_svc.counting.sketch import bucket
from metrics_svc.queries import answers
from metrics_svc.queries.periods import Period
from touchpoint.testing.factories import NOON

PERIOD = Period(NOON, NOON.replace(hour=13))


def item(metric: Metric, buckets: dict[int, int], scale: str = "", total: int = 0) -> dict[str, Any]:
    count = Count(0, scale, ("email",), buckets, total)
    return answers.item(metric, PERIOD, {Dimension.CHANNEL: "email"}, count).model_dump(mode="json")


def test_an_item_has_its_period_its_group_and_n() -> None:
    result = item(Metric.NPS, {9: 1}, "0-10")
    assert (result["start"], result["end"]) == ("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z")
    assert (result["group"], result["n"]) == ({"channel": "email"}, 1)


def test_nps_equals_the_calculation_by_hand() -> None:
    result = item(Metric.NPS, {0: 1, 6: 1, 7: 1, 8: 2, 9: 2, 10: 3}, "0-10")
    assert (result["promoters"], result["passives"], result["detractors"], result["n"]) == (5, 3, 2, 10)
    assert result["value"] == 30
    assert result["interval_95"] == {"low": pytest.approx(-19.05, abs=0.01), "high": pytest.approx(65.20, abs=0.01)}
    assert result["distribution"] == {
        "0": 1,
        "1": 0,
        "2": 0,
        "3": 0,
        "4": 0,
        "5": 0,
        "6": 1,
        "7": 1,
        "8": 2,
        "9": 2,
        "10": 3,
    }


@pytest.mark.parametrize(
    ("scale", "satisfied"),
    [("1-5", {4, 5}), ("0-10", {9, 10}), ("1-7", {6, 7}), ("1-4", {4}), ("0-1", {1}), ("-2-2", {1, 2})],
)
def test_the_top_two_boxes_are_satisfied_and_on_short_scales_the_top_one(scale: str, satisfied: set[int]) -> None:
    low, high = Scale.parse(scale)
    result = {score for score in range(low, high + 1) if item(Metric.CSAT, {score: 1}, scale)["satisfied"]}
    assert result == satisfied


def test_csat_equals_the_calculation_by_hand() -> None:
    result = item(Metric.CSAT, {1: 182, 5: 81}, "1-5")
    assert (result["satisfied"], result["n"], result["value"]) == (81, 263, pytest.approx(81 / 263))
    assert result["interval_95"] == {"low": pytest.approx(0.2553, abs=5e-5), "high": pytest.approx(0.3662, abs=5e-5)}


def test_ces_equals_the_calculation_by_hand() -> None:
    result = item(Metric.CES, {2: 1, 4: 1, 5: 2, 6: 3, 7: 3}, "1-7", 55)
    assert (result["value"], result["score_sum"], result["n"]) == (5.5, 55, 10)
    assert (result["agreeing_share"], result["easy_minus_difficult"]) == (0.8, 50)
    # Σx² = 4 + 16 + 50 + 108 + 147 = 325, so s² = (325 − 55²/10) / 9 = 2.5; t(9 degrees, 97.5 %) = 2.262157.
    margin = 2.262157 * (2.5 / 10) ** 0.5
    assert result["interval_95"] == {
        "low": pytest.approx(5.5 - margin, abs=1e-4),
        "high": pytest.approx(5.5 + margin, abs=1e-4),
    }


def test_ces_on_a_scale_other_than_1_to_7_has_no_shares() -> None:
    result = item(Metric.CES, {1: 2, 5: 2}, "1-5", 12)
    assert (result["value"], result["scale"]) == (3, "1-5")
    assert (result["agreeing_share"], result["easy_minus_difficult"]) == (None, None)


def test_durations_equal_the_calculation_by_hand() -> None:
    seconds = [60, 120, 180, 240, 300, 360, 420, 480, 540, 6000]
    result = item(Metric.RESOLUTION, {bucket(s * 1_000_000): 1 for s in seconds}, total=sum(seconds) * 1_000_000)
    assert (result["n"], result["total_seconds"], result["mean_seconds"]) == (10, 8700, 870)
    assert result["value"] == pytest.approx(300, rel=0.01)
    assert result["interval_95"] == {"low": pytest.approx(120, rel=0.01), "high": pytest.approx(540, rel=0.01)}
    assert result["p90_seconds"] == pytest.approx(540, rel=0.01)
    assert result["p95_seconds"] == result["p99_seconds"] == pytest.approx(6000, rel=0.01)


@pytest.mark.parametrize("metric", Metric)
def test_nothing_measured_is_null_and_not_zero(metric: Metric) -> None:
    result = item(metric, {})
    assert (result["n"], result["value"], result["interval_95"]) == (0, None, None)
    derived = {"mean_seconds", "p90_seconds", "p95_seconds", "p99_seconds", "agreeing_share", "easy_minus_difficult"}
    assert all(result[name] is None for name in derived & result.keys())


@pytest.mark.parametrize(
    ("metric", "buckets", "scale", "reason"),
    [
        (Metric.NPS, {}, "0-10", "nothing was measured"),
        (Metric.NPS, {9: 1}, "0-10", "10 are needed, there are 1"),
        (Metric.NPS, {9: 10}, "0-10", None),
        (Metric.CSAT, {4: 1}, "1-5", None),
        (Metric.CES, {4: 2}, "1-7", "3 are needed, there are 2"),
        (Metric.CES, {4: 3}, "1-7", "all answers are equal: the method would claim certainty"),
        (Metric.RESOLUTION, {7: 5}, "", "6 are needed, there are 5"),
    ],
)
def test_where_there_is_no_interval_the_answer_says_why(
    metric: Metric, buckets: dict[int, int], scale: str, reason: str | None
) -> None:
    result = item(metric, buckets, scale)
    assert (result["interval_95"] is None, result["no_interval_because"]) == (reason is not None, reason)


def test_parsing_a_written_scale_gives_the_same_scale() -> None:
    for scale in (Scale(0, 10), Scale(-3, 3), Scale(-10, -5)):
        assert Scale.parse(str(scale)) == scale
