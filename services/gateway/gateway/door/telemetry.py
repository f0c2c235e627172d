"""Names of the metrics and log events that all routes share. No tenant or customer is a label."""

from prometheus_client import Counter, Gauge

LIMITED = Counter(
    "touchpoint_gateway_limited_total",
    "Requests refused with 429, by the limit: events, requests, public, daily, at-once.",
    ["limit"],
)
BODY_BYTES = Gauge("touchpoint_gateway_body_bytes", "Bytes of large request bodies being read or worked on.")

for _limit in ("events", "requests", "public", "daily", "at-once"):
    LIMITED.labels(_limit)

CROWDED = "gateway.crowded"
