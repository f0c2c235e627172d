"""A Prometheus histogram that observes a whole batch in one call; prometheus_client's own takes one value per call."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class BulkHistogram(Collector):
    """Ages of events in seconds, labelled by consumer.

    No lock is needed: every method runs on the event loop without an await.
    """

    _labelnames = ("consumer",)

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = buckets
        self._totals: dict[str, tuple[list[int], float]] = {}
        """Per consumer: the cumulative count for each bucket bound, the last one for +Inf; and the sum of all ages."""
        REGISTRY.register(self)

    def start(self, consumer: str) -> None:
        """Create the consumer's series with all counts at zero."""
        self._totals.setdefault(consumer, ([0] * (len(self._bounds) + 1), 0.0))

    def observe(self, consumer: str, moments: Sequence[int], now: int) -> None:
        """Add the ages of events at these moments (milliseconds since 1970); a moment after `now` counts as age 0.

        The cost of a batch is one sort (fast, as a batch is a few ascending runs) and one binary search per bound.
        """
        self.start(consumer)
        counts, total = self._totals[consumer]
        ordered = sorted(moments)
        for index, bound in enumerate(self._bounds):
            counts[index] += len(ordered) - bisect_left(ordered, now - bound * 1000)
        counts[-1] += len(ordered)
        self._totals[consumer] = counts, total + max(0, len(ordered) * now - sum(ordered)) / 1000

    def describe(self) -> list[HistogramMetricFamily]:
        """The metric's name, help text and labels, without samples."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The samples for a scrape."""
        [family] = self.describe()
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for consumer, (counts, total) in self._totals.items():
            family.add_metric([consumer], list(zip(bounds, counts, strict=True)), total)
        yield family
