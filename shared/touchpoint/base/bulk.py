"""A Prometheus histogram that takes in a whole batch at once: prometheus_client's own takes one value a call."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class BulkHistogram(Collector):
    """Ages by consumer, in seconds. Between an observation and the next nothing awaits, so no lock is needed."""

    _labelnames = ("consumer",)

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = buckets
        self._found: dict[str, tuple[list[int], float]] = {}
        """By consumer: how many were not older than each bound, all of them last; and the sum."""
        REGISTRY.register(self)

    def start(self, consumer: str) -> None:
        """Have the consumer's series from now on, with nothing in them."""
        self._found.setdefault(consumer, ([0] * (len(self._bounds) + 1), 0.0))

    def observe(self, consumer: str, moments: Sequence[int], now: int) -> None:
        """Take in what happened at these moments, in milliseconds since 1970; what lies ahead of `now` has age 0.

        A batch costs a sort of its few ascending runs and a search for each bound, nothing for each event.
        """
        self.start(consumer)
        counts, total = self._found[consumer]
        ordered = sorted(moments)
        for index, bound in enumerate(self._bounds):
            counts[index] += len(ordered) - bisect_left(ordered, now - bound * 1000)
        counts[-1] += len(ordered)
        self._found[consumer] = counts, total + max(0, len(ordered) * now - sum(ordered)) / 1000

    def describe(self) -> list[HistogramMetricFamily]:
        """Its name and meaning."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus is told."""
        [family] = self.describe()
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for consumer, (counts, total) in self._found.items():
            family.add_metric([consumer], list(zip(bounds, counts, strict=True)), total)
        yield family
