from math import comb, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_svc.queries import formulas

counts = st.integers(0, 500)


def exactly(low: float, high: float, within: float) -> Any:
    return pytest.approx((low, high), abs=within)


def test_nothing_measured_has_no_value_and_no_interval() -> None:
    assert formulas.net(0, 0, 0) is None
    assert formulas.net_interval(0, 0, 0) is None
    assert formulas.share(0, 0) is None
    assert formulas.share_interval(0, 0) is None
    assert formulas.mean({}) is None
    assert formulas.mean_interval({}, 1, 7) is None
    assert formulas.median_ranks(0) is None


def test_a_net_score_is_a_difference_in_points_of_all_answers() -> None:
    assert formulas.net(6, 1, 10) == 50
    assert formulas.net(0, 3, 3) == -100
    assert formulas.net(1, 1, 7) == 0


def test_adjusted_wald_equals_the_calculation_by_hand() -> None:
    # 5 promoters, 2 detractors of 10: p = 5.75/13, d = 2.75/13, difference 3/13, variance 8.5/13 − 9/169 = 101.5/169.
    margin = 1.959964 * sqrt(101.5 / 169 / 13)
    assert formulas.net_interval(5, 2, 10) == exactly(100 * (3 / 13 - margin), 100 * (3 / 13 + margin), 1e-4)
    assert formulas.net_interval(5, 2, 10) == exactly(-19.05, 65.20, 0.01)


def test_adjusted_wald_has_a_width_when_all_answers_agree_and_stays_on_the_scale() -> None:
    interval = formulas.net_interval(10, 0, 10)
    assert interval is not None
    assert 40 < interval.low < interval.high <= 100


def test_a_net_score_of_few_answers_has_no_interval() -> None:
    assert formulas.net(1, 0, 1) == 100
    assert formulas.net_interval(1, 0, 1) is None
    assert formulas.net_interval(5, 2, 9) is None


@given(counts, counts, counts)
def test_an_interval_contains_its_own_value(plus: int, minus: int, rest: int) -> None:
    n = plus + minus + rest
    for value, interval in (
        (formulas.net(plus, minus, n), formulas.net_interval(plus, minus, n)),
        (formulas.share(plus, n), formulas.share_interval(plus, n)),
        (formulas.mean({1: plus, 4: minus, 7: rest}), formulas.mean_interval({1: plus, 4: minus, 7: rest}, 1, 7)),
    ):
        if value is not None and interval is not None:
            assert interval.low - 1e-9 <= value <= interval.high + 1e-9


def coverage(n: int, promoting: float, detracting: float) -> float:
    """The probability that the interval contains the true score, summed over every outcome of n answers."""
    covered = 0.0
    for p in range(n + 1):
        for d in range(n + 1 - p):
            chance = (
                comb(n, p) * comb(n - p, d) * promoting**p * detracting**d * (1 - promoting - detracting) ** (n - p - d)
            )
            interval = formulas.net_interval(p, d, n)
            assert interval is not None
            covered += chance * (interval.low <= 100 * (promoting - detracting) <= interval.high)
    return covered


@pytest.mark.parametrize(("promoting", "detracting"), [(0.5, 0.2), (0.3, 0.3), (0.6, 0.1), (0.2, 0.5), (0.4, 0.4)])
def test_adjusted_wald_covers_95_percent_of_ten_answers(promoting: float, detracting: float) -> None:
    # Plain Wald covers 87 to 91 % here (Rocks 2016 finds the same).
    assert 0.94 < coverage(10, promoting, detracting) < 0.98


@pytest.mark.parametrize(
    ("part", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_limits(part: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17:857–872, table I, method 3.
    assert formulas.share_interval(part, n) == exactly(low, high, 5e-5)


@given(part=counts, rest=counts)
def test_wilson_is_symmetric_and_contains_the_share(part: int, rest: int) -> None:
    n = part + rest
    interval, other = formulas.share_interval(part, n), formulas.share_interval(rest, n)
    if interval is None or other is None:
        assert n == 0
        return
    assert interval == exactly(1 - other.high, 1 - other.low, 1e-12)
    assert interval.low <= part / n + 1e-12
    assert part / n <= interval.high + 1e-12


def test_a_mean_and_its_students_t_interval_equal_the_calculation_by_hand() -> None:
    # 4, 5, 5, 6, 7, 7, 7: mean 41/7, sample variance 62/49 · 7/6 = 1.476190…, t(6 degrees, 97.5 %) = 2.446912.
    scores = {4: 1, 5: 2, 6: 1, 7: 3}
    margin = 2.446912 * sqrt((249 - 41**2 / 7) / 6 / 7)
    assert formulas.mean(scores) == pytest.approx(41 / 7)
    assert formulas.mean_interval(scores, 1, 7) == exactly(41 / 7 - margin, 41 / 7 + margin, 1e-3)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(2, 4.302653), (3, 3.182446), (5, 2.570582), (10, 2.228139), (29, 2.045230), (120, 1.979930)],
)
def test_students_t_equals_the_published_tables(freedom: int, quantile: float) -> None:
    half = (freedom + 1) // 2
    # The standard error of two scores in equal parts (or one more of one) is easily computed: half the width ÷ it is t.
    scores = {0: freedom + 1 - half, 1: half}
    n, mean = freedom + 1, half / (freedom + 1)
    error = sqrt(n * mean * (1 - mean) / freedom / n)
    interval = formulas.mean_interval(scores, -1000, 1000)
    assert interval is not None
    assert (interval.high - interval.low) / 2 / error == pytest.approx(quantile, rel=0.008)


def test_a_mean_interval_is_cut_at_the_scales_ends() -> None:
    assert formulas.mean_interval({1: 1, 7: 2}, 1, 7) == (1, 7)


def test_no_mean_interval_where_t_would_claim_certainty() -> None:
    assert formulas.mean_interval({7: 50}, 1, 7) is None
    assert formulas.mean_interval({6: 1, 7: 1}, 1, 7) is None


@pytest.mark.parametrize(
    ("n", "ranks"),
    [
        (5, None),
        (6, (1, 6)),
        (8, (1, 8)),
        (9, (2, 8)),
        (10, (2, 9)),
        (12, (3, 10)),
        (15, (4, 12)),
        (20, (6, 15)),
        (100, (40, 61)),
    ],
)
def test_median_ranks_equal_the_published_tables(n: int, ranks: tuple[int, int] | None) -> None:
    # Campbell & Gardner 1988, BMJ 296:1454; the exact binomial.
    assert formulas.median_ranks(n) == ranks


@pytest.mark.parametrize("n", [*range(1, 60), 138, 551, 1000, 2500])
def test_median_ranks_cover_95_percent_of_any_distribution_and_hardly_more(n: int) -> None:
    """By the exact binomial: the innermost ranks outside which the median lies in at most 5 %, or one rank wider."""
    outside, innermost = 0, 0
    while 40 * (outside + comb(n, innermost)) <= 2**n:
        outside += comb(n, innermost)
        innermost += 1
    ranks = formulas.median_ranks(n)
    if innermost == 0:
        assert ranks is None
        return
    assert ranks in {(innermost, n + 1 - innermost), (innermost - 1, n + 2 - innermost)}
