"""What feedback-svc does with events: two independent projections."""

from feedback_svc import repository, service, telemetry
from feedback_svc.service import NewEntry, NewFeedback
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db import outbox
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(FeedbackSubmitted, prepare=service.new_feedback)
async def store_feedback(feedback: list[NewFeedback], ctx: Context) -> None:
    """Store what was said and tell the other services."""
    rows = [each.row for each in feedback]
    await repository.insert_feedback(ctx.session, rows)
    await outbox.write(ctx.session, [each.news for each in feedback])
    telemetry.count_stored(ctx.session, rows)


@handlers.on(*service.TITLES, prepare=service.timeline_entry)
async def keep_timeline(entries: list[NewEntry], ctx: Context) -> None:
    """Add the touchpoints that name a customer to the customer's timeline."""
    await repository.insert_timeline(ctx.session, entries)
