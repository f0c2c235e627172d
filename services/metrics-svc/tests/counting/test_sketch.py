from datetime import timedelta
from itertools import accumulate
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_svc.counting import sketch
from metrics_svc.counting.sketch import Sketch

YEARS = 10_000 * 366 * 86_400 * 1_000_000
durations = st.one_of(st.integers(0, 200), st.integers(0, YEARS))
samples = st.lists(durations, min_size=1, max_size=200)


def counted(values: list[int]) -> dict[int, int]:
    result: dict[int, int] = {}
    for value in values:
        result[sketch.bucket(value)] = result.get(sketch.bucket(value), 0) + 1
    return result


@given(durations)
def test_every_duration_is_within_one_percent_of_the_value_of_its_bucket(microseconds: int) -> None:
    assert sketch.value(sketch.bucket(microseconds)) * 1_000_000 == pytest.approx(microseconds, rel=0.01 + 1e-12)


@given(samples, st.integers(1, 100))
def test_any_percentile_of_any_data_is_within_one_percent_of_the_exact_one(values: list[int], percent: int) -> None:
    exact = sorted(values)[ceil(percent * len(values) / 100) - 1] / 1_000_000
    assert Sketch(counted(values)).percentile(percent) == pytest.approx(exact, rel=0.01 + 1e-12)


@given(samples, st.data())
def test_a_merge_is_identical_whatever_the_split_and_the_order(values: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    parts = [counted(shuffled[a:b]) for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    merged: dict[int, int] = {}
    for part in parts:
        for bucket, n in part.items():
            merged[bucket] = merged.get(bucket, 0) + n
    assert merged == counted(values)


@given(durations, durations)
def test_buckets_keep_the_order_of_durations(left: int, right: int) -> None:
    if left <= right:
        assert sketch.bucket(left) <= sketch.bucket(right)


def test_the_bounds_of_buckets_follow_the_formula() -> None:
    # γ = 101/99. By hand: γ^35 = 2.0138, γ^34 = 1.9742, so 2 µs is in bucket 36; zero has a bucket of its own.
    assert sketch.bucket(0) == 0
    assert sketch.bucket(1) == 1
    assert sketch.bucket(2) == 36
    gamma = 1.01 / 0.99
    hour = 3_600_000_000
    index = sketch.bucket(hour)
    assert gamma ** (index - 2) < hour <= gamma ** (index - 1)


def test_at_rank_counts_from_the_shortest() -> None:
    values = [3_000_000, 1_000_000, 1_000_000, 60_000_000]
    result = [Sketch(counted(values)).at_rank(rank) for rank in (1, 2, 3, 4)]
    assert result == pytest.approx([1, 1, 3, 60], rel=0.01)


def test_an_empty_sketch_has_no_percentile() -> None:
    assert Sketch({}).percentile(50) is None
    assert Sketch({}).n == 0


def test_a_duration_is_counted_in_whole_microseconds_and_never_negative() -> None:
    assert sketch.microseconds(timedelta(seconds=1.5)) == 1_500_000
    assert sketch.microseconds(timedelta(seconds=-3)) == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_at_rank_equals_indexing_the_sorted_list_of_values(ns: list[int]) -> None:
    buckets = {index: n for index, n in enumerate(ns) if n}
    every = [sketch.value(index) for index, n in buckets.items() for _ in range(n)]
    result = Sketch(buckets)
    assert [result.at_rank(rank) for rank in range(1, result.n + 1)] == every
    assert result.n == list(accumulate(ns))[-1]
