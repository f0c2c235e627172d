"""What `touchpoint verify` recomputes from the log for feedback-svc and compares with its tables."""

from feedback_svc.config import NAME
from feedback_svc.feedback.verify import EFFECT as FEEDBACK
from feedback_svc.handlers import handlers
from feedback_svc.timeline.verify import EFFECT as TIMELINE
from touchpoint.verify.subject import Subject


def subject() -> Subject:
    """The tables of feedback-svc and how to recompute them."""
    return Subject(NAME, handlers, (FEEDBACK, TIMELINE))
