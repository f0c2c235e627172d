"""Keeps the timelines."""

from feedback_svc.timeline import service
from feedback_svc.timeline.models import TIMELINE, Entry
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(*service.TITLES, prepare=service.timeline_entry)
async def keep_timeline(entries: list[Entry], ctx: Context) -> None:
    """Add the touchpoints that name a customer to the customer's timeline."""
    await TIMELINE.insert(ctx.session, entries)
