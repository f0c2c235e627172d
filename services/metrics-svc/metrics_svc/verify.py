"""What `touchpoint verify` recomputes from the log for metrics-svc and compares with its tables."""

from metrics_svc.config import NAME
from metrics_svc.counting.handlers import handlers
from metrics_svc.counting.verify import ANSWERS, CHANGES, ROLLUPS, TICKETS
from touchpoint.verify.subject import Subject


def subject() -> Subject:
    """The tables of metrics-svc and how to recompute them."""
    return Subject(NAME, handlers, (ROLLUPS, CHANGES, ANSWERS, TICKETS))
