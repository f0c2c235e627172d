"""Names of the metrics and log events of Idempotency-Keys."""

from prometheus_client import Counter

REPEATED = Counter(
    "touchpoint_gateway_repeated_total",
    "Requests under an Idempotency-Key used before, by the answer: replayed, in-progress, reused.",
    ["answer"],
)

for _answer in ("replayed", "in-progress", "reused"):
    REPEATED.labels(_answer)

IDEMPOTENCY_UNREACHABLE = "gateway.idempotency_unreachable"
