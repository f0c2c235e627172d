"""Keeps the timelines."""

from feedback_svc.timeline import repository, service
from feedback_svc.timeline.service import NewEntry
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(*service.TITLES, prepare=service.timeline_entry)
async def keep_timeline(entries: list[NewEntry], ctx: Context) -> None:
    """Add the touchpoints that name a customer to the customer's timeline."""
    await repository.insert_timeline(ctx.session, entries)
