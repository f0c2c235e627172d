"""The topics, each named after the data it carries and written by exactly one service.

All have the same number of partitions and are keyed `tenant:customer`, so that one customer's events keep their order
within a topic. The names here are logical: a deployment may put a prefix in front (setting `topic_prefix`).
"""

TOUCHPOINTS = "touchpoints.v1"
FEEDBACK = "feedback.v1"
ESCALATIONS = "escalations.v1"

WRITERS = {TOUCHPOINTS: "gateway", FEEDBACK: "feedback-svc", ESCALATIONS: "escalation-svc"}
"""Which service writes a topic; nobody else does."""


_DLQ = ".dlq"


def dead_letters(topic: str, consumer: str) -> str:
    """Where events of `topic` go that `consumer` could not handle."""
    return f"{topic}.{consumer}{_DLQ}"


def is_dead_letters(topic: str) -> bool:
    """Whether a topic is one of dead letters."""
    return topic.endswith(_DLQ)
