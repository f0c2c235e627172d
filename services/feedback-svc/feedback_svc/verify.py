"""What `touchpoint verify` makes anew of this service and compares."""

from feedback_svc.config import NAME
from feedback_svc.feedback.verify import EFFECT as FEEDBACK
from feedback_svc.handlers import handlers
from feedback_svc.timeline.verify import EFFECT as TIMELINE
from touchpoint.verify.subject import Subject


def subject() -> Subject:
    """This service."""
    return Subject(NAME, handlers, ("feedback", "timeline"), (FEEDBACK, TIMELINE))
