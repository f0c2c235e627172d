"""Names of this service's own metrics and log events; the engine's are in `touchpoint.base.telemetry`."""

from prometheus_client import Counter, Gauge

MEASUREMENTS = Counter(
    "touchpoint_metrics_measurements_total",
    "Scores and durations counted, those of batches rolled back and tried again included.",
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
