"""What `touchpoint verify` makes anew of this service and compares."""

from feedback_svc.app import NAME
from feedback_svc.handlers import handlers
from touchpoint.verify.subject import Effect, Subject

FEEDBACK = Effect(
    "feedback",
    ("tenant_id", "id"),
    "SELECT tenant_id, id, feedback::text AS row FROM {tables}.feedback",
    per_event=True,
)
TIMELINE = Effect(
    "timeline",
    ("tenant_id", "id"),
    "SELECT tenant_id, id, timeline::text AS row FROM {tables}.timeline",
    per_event=True,
)


def subject() -> Subject:
    """This service."""
    return Subject(NAME, handlers, ("feedback", "timeline"), (FEEDBACK, TIMELINE))
