"""Metrics of counting."""

from collections import Counter as Counts
from collections.abc import Mapping

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.counting.decisions import Sums
from metrics_svc.counting.models import Cell
from touchpoint.db.engine import once_committed

MEASUREMENTS = Counter(
    "touchpoint_metrics_measurements_total",
    "Scores and durations counted, by metric.",
    ["metric"],
)
CELLS = Counter(
    "touchpoint_metrics_cells_total",
    "Rollup rows written; far fewer than measurements when many measurements share a row.",
)


def count_measured(session: AsyncSession, cells: Mapping[Cell, Sums]) -> None:
    """Count measurements and rows after the session has committed."""
    measured = Counts[str]()
    for cell, sums in cells.items():
        measured[cell.metric] += max(0, sums.n)

    def count() -> None:
        CELLS.inc(len(cells))
        for metric, number in measured.items():
            MEASUREMENTS.labels(metric).inc(number)

    once_committed(session, count)
