"""What feedback-svc does with events: two independent projections."""

from feedback_svc import repository, service, telemetry
from touchpoint.contracts.base import Event
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(FeedbackSubmitted)
async def store_feedback(events: list[FeedbackSubmitted], ctx: Context) -> None:
    """Store what was said and tell the other services."""
    await repository.insert_feedback(ctx.session, events)
    await ctx.publish(*map(service.recorded, events))
    telemetry.count_stored(ctx.session, events)


@handlers.on(*service.TITLES)
async def keep_timeline(events: list[Event], ctx: Context) -> None:
    """Add the touchpoints that name a customer to the customer's timeline."""
    entries = [entry for event in events if (entry := service.timeline_entry(event))]
    await repository.insert_timeline(ctx.session, entries)
