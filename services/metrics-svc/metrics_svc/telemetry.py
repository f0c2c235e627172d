"""Names of this service's own metrics; the engine's are in `touchpoint.telemetry`."""

from prometheus_client import Counter

MEASUREMENTS = Counter(
    "touchpoint_metrics_measurements_total",
    "Scores and durations counted, those of batches rolled back and tried again included.",
    ["metric"],
)
CELLS = Counter(
    "touchpoint_metrics_cells_total",
    "Rows of the rollups added to; far below the measurements when many share a row.",
)
