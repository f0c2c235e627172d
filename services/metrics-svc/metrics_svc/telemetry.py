"""Names of this service's own metrics and log events; the engine's are in `touchpoint.base.telemetry`."""

from collections import Counter as Counts
from collections.abc import Mapping

from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.counting import Cell, Sums
from touchpoint.db.engine import once_committed

MEASUREMENTS = Counter(
    "touchpoint_metrics_measurements_total",
    "Scores and durations counted.",
    ["metric"],
)
CELLS = Counter(
    "touchpoint_metrics_cells_total",
    "Rows of the rollups added to; far below the measurements when many share a row.",
)

# Of the tenants that BUSINESS_TENANTS names, over the last 30 days.
NPS = Gauge(
    "touchpoint_metrics_nps_points",
    "Net promoter score, -100 to 100, if BUSINESS_TENANTS asks for it.",
    ["tenant", "scale"],
)
CSAT = Gauge(
    "touchpoint_metrics_csat_ratio",
    "Share of satisfied answers, 0 to 1, if BUSINESS_TENANTS asks for it.",
    ["tenant", "scale"],
)
CES = Gauge(
    "touchpoint_metrics_ces_score",
    "Mean effort score on its scale, if BUSINESS_TENANTS asks for it.",
    ["tenant", "scale"],
)


def count_measured(session: AsyncSession, cells: Mapping[Cell, Sums]) -> None:
    """Count what was measured, once it is committed."""
    measured = Counts[str]()
    for cell, sums in cells.items():
        measured[cell.metric] += max(0, sums.n)

    def count() -> None:
        CELLS.inc(len(cells))
        for metric, number in measured.items():
            MEASUREMENTS.labels(metric).inc(number)

    once_committed(session, count)
