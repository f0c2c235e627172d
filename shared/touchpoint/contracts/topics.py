"""The Kafka topics. Each is named after its events and written by exactly one service.

All have the same number of partitions and the key `tenant:customer`, so events of one customer keep their order within
a topic. The names are logical: a deployment may add a prefix (setting `KAFKA_TOPIC_PREFIX`).
"""

TOUCHPOINTS = "touchpoints.v1"
FEEDBACK = "feedback.v1"
ESCALATIONS = "escalations.v1"

WRITERS = {TOUCHPOINTS: "gateway", FEEDBACK: "feedback-svc", ESCALATIONS: "escalation-svc"}
"""The only service that writes each topic."""


_DLQ = ".dlq"


def dead_letters(topic: str, consumer: str) -> str:
    """The dead-letter topic for events of `topic` that `consumer` could not handle."""
    return f"{topic}.{consumer}{_DLQ}"


def is_dead_letters(topic: str) -> bool:
    """Whether this is a dead-letter topic."""
    return topic.endswith(_DLQ)
