"""The histogram for whole batches reports the same values as prometheus_client's histogram for single values."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from touchpoint.base.bulk import BulkHistogram

BOUNDS = (0.1, 0.5, 1, 5)
NOW = 1_763_800_000_000


@given(st.lists(st.lists(st.integers(-100, 10_000), max_size=50), min_size=1, max_size=5))
def test_batches_give_the_same_buckets_as_single_observations(batches):
    bulk = BulkHistogram("touchpoint_test_seconds", "Test.", BOUNDS)
    REGISTRY.unregister(bulk)
    registry = CollectorRegistry()
    single = Histogram("touchpoint_test_seconds", "Test.", ["consumer"], buckets=BOUNDS, registry=registry)
    for ages in batches:
        bulk.observe("c", [NOW - age for age in ages], NOW)
        for age in ages:
            single.labels("c").observe(age / 1000)
    buckets = {(s.name, s.labels["le"]): s.value for s in next(bulk.collect()).samples if "le" in s.labels}
    expected = {(s.name, s.labels["le"]): s.value for f in registry.collect() for s in f.samples if "le" in s.labels}
    assert buckets == expected or not any(batches)


def test_the_exposition_is_that_of_a_prometheus_histogram():
    bulk = BulkHistogram("touchpoint_test_seconds", "Test.", BOUNDS)
    REGISTRY.unregister(bulk)
    registry = CollectorRegistry()
    registry.register(bulk)
    bulk.start("early")
    bulk.observe("c", [NOW - 400, NOW - 2000, NOW + 50], NOW)
    lines = generate_latest(registry).decode().splitlines()
    assert 'touchpoint_test_seconds_bucket{consumer="early",le="+Inf"} 0.0' in lines
    assert 'touchpoint_test_seconds_bucket{consumer="c",le="0.5"} 2.0' in lines
    assert 'touchpoint_test_seconds_count{consumer="c"} 3.0' in lines
    assert 'touchpoint_test_seconds_sum{consumer="c"} 2.35' in lines
