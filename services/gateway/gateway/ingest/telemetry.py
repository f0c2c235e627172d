"""Names of the metrics of incoming events. No tenant or customer is a label."""

from prometheus_client import Counter

ACCEPTED = Counter(
    "touchpoint_gateway_events_accepted_total",
    "Events Kafka has acknowledged, by how they came: structured, binary, batch, feedback.",
    ["mode"],
)
REFUSED = Counter(
    "touchpoint_gateway_events_refused_total", "Events not taken, by the code of the problem answered.", ["reason"]
)

for _mode in ("structured", "binary", "batch", "feedback"):
    ACCEPTED.labels(_mode)
REFUSED.labels("not-acknowledged")
