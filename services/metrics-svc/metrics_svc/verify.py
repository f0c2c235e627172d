"""What `touchpoint verify` counts anew of this service and compares."""

from metrics_svc.config import NAME
from metrics_svc.counting.handlers import handlers
from metrics_svc.counting.verify import ANSWERS, CHANGES, ROLLUPS, TICKETS
from touchpoint.verify.subject import Subject


def subject() -> Subject:
    """This service."""
    return Subject(NAME, handlers, ("rollups", "changes", "answers", "tickets"), (ROLLUPS, CHANGES, ANSWERS, TICKETS))
