"""The scores of the tenants that BUSINESS_TENANTS names, over the last 30 days, as metrics."""

from prometheus_client import Gauge

NPS = Gauge(
    "touchpoint_metrics_nps_points",
    "Net promoter score, -100 to 100, of the tenants in BUSINESS_TENANTS.",
    ["tenant", "scale"],
)
CSAT = Gauge(
    "touchpoint_metrics_csat_ratio",
    "Share of satisfied answers, 0 to 1, of the tenants in BUSINESS_TENANTS.",
    ["tenant", "scale"],
)
CES = Gauge(
    "touchpoint_metrics_ces_score",
    "Mean effort score on its scale, of the tenants in BUSINESS_TENANTS.",
    ["tenant", "scale"],
)
