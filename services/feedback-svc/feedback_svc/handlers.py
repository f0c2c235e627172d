"""The Kafka handlers of feedback-svc: two independent projections, feedback and timelines."""

from feedback_svc.feedback.handlers import handlers as feedback
from feedback_svc.timeline.handlers import handlers as timeline
from touchpoint.kafka.handlers import Handlers

handlers = Handlers.gather(feedback, timeline)
