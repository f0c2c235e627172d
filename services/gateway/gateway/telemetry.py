"""Names of the gateway's metrics and log events. No tenant or customer is a label."""

from prometheus_client import Counter, Gauge

ACCEPTED = Counter(
    "touchpoint_gateway_events_accepted_total",
    "Events Kafka has acknowledged, by how they came: structured, binary, batch, feedback.",
    ["mode"],
)
REFUSED = Counter(
    "touchpoint_gateway_events_refused_total", "Events not taken, by the code of the problem answered.", ["reason"]
)
LIMITED = Counter(
    "touchpoint_gateway_limited_total",
    "Requests refused with 429, by the limit: events, requests, daily, at-once.",
    ["limit"],
)
REPEATED = Counter(
    "touchpoint_gateway_repeated_total",
    "Requests under an Idempotency-Key used before, by the answer: replayed, in-progress, reused.",
    ["answer"],
)
BODY_BYTES = Gauge("touchpoint_gateway_body_bytes", "Bytes of large request bodies being read or worked on.")

for _mode in ("structured", "binary", "batch", "feedback"):
    ACCEPTED.labels(_mode)
for _limit in ("events", "requests", "daily", "at-once"):
    LIMITED.labels(_limit)
for _answer in ("replayed", "in-progress", "reused"):
    REPEATED.labels(_answer)
REFUSED.labels("not-acknowledged")

CROWDED = "gateway.crowded"
IDEMPOTENCY_UNREACHABLE = "gateway.idempotency_unreachable"
KEYS_UNREACHABLE = "gateway.keys_unreachable"
OFFSETS_UNREACHABLE = "gateway.offsets_unreachable"
SERVICE_UNREACHABLE = "gateway.service_unreachable"
