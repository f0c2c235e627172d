"""The Kafka handler that stores feedback."""

from feedback_svc.feedback import service, telemetry
from feedback_svc.feedback.models import FEEDBACK
from feedback_svc.feedback.service import NewFeedback
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db import outbox
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(FeedbackSubmitted, prepare=service.new_feedback)
async def store_feedback(feedback: list[NewFeedback], ctx: Context) -> None:
    """Insert a batch of feedback and write a `feedback.recorded` event for each to the outbox."""
    rows = [each.row for each in feedback]
    await FEEDBACK.insert(ctx.session, rows)
    await outbox.write(ctx.session, [each.announcement for each in feedback])
    telemetry.count_stored(ctx.session, rows)
