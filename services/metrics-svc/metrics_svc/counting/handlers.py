"""What metrics-svc does with events: it counts them, in the transaction that also moves the offsets."""

from metrics_svc.counting import service
from metrics_svc.counting.decisions import Counted
from touchpoint.contracts.touchpoints import (
    CustomerUpdated,
    FeedbackSubmitted,
    TicketOpened,
    TicketReplied,
    TicketStatusChanged,
)
from touchpoint.kafka.handlers import Context, Handlers

handlers = Handlers()


# One handler for all: a change of segment must not jump over an answer, nor a reply over its ticket.
@handlers.on(CustomerUpdated, FeedbackSubmitted, TicketOpened, TicketReplied, TicketStatusChanged)
async def count(events: list[Counted], ctx: Context) -> None:
    """Add a batch to the rollups. History counts like the present: backfill is data."""
    await service.count(ctx.session, events)
