"""Names of the gateway's metrics and log events. No tenant or customer is a label."""

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter(
    "touchpoint_gateway_events_accepted_total",
    "Events Kafka has acknowledged, by how they came: structured, binary, batch, feedback.",
    ["mode"],
)
REFUSED = Counter(
    "touchpoint_gateway_events_refused_total", "Events not taken, by the code of the problem answered.", ["reason"]
)
REQUEST_SECONDS = Histogram(
    "touchpoint_gateway_request_duration_seconds",
    "From the request's headers to the end of the answer.",
    ["route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LIMITED = Counter(
    "touchpoint_gateway_limited_total", "Requests refused with 429, by the limit: events, requests, daily.", ["limit"]
)
REPEATED = Counter(
    "touchpoint_gateway_repeated_total",
    "Requests under an Idempotency-Key used before, by the answer: replayed, in-progress, reused.",
    ["answer"],
)
IN_FLIGHT = Gauge("touchpoint_gateway_in_flight_bytes", "Bytes of events waiting for Kafka's acknowledgement.")
BODY_BYTES = Gauge("touchpoint_gateway_body_bytes", "Bytes of large request bodies being read or worked on.")

IDEMPOTENCY_UNREACHABLE = "gateway.idempotency_unreachable"
KEYS_UNREACHABLE = "gateway.keys_unreachable"
LIMITS_ALONE = "gateway.limits_alone"
LIMITS_TOGETHER = "gateway.limits_together"
OFFSETS_UNREACHABLE = "gateway.offsets_unreachable"
SERVICE_UNREACHABLE = "gateway.service_unreachable"
