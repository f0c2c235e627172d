"""The Kafka handler that keeps the timelines."""

from feedback_svc.timeline import service
from feedback_svc.timeline.models import TIMELINE, Entry
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


@handlers.on(*service.TITLES, prepare=service.timeline_entry)
async def keep_timeline(entries: list[Entry], ctx: Context) -> None:
    """Insert the timeline entries of a batch of events; events without a customer have none."""
    await TIMELINE.insert(ctx.session, entries)
