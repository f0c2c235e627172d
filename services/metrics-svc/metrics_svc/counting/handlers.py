"""The Kafka handler of metrics-svc: counts events, in the transaction that also stores the offsets."""

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


# One handler for all types, so that they are handled in log order.
@handlers.on(CustomerUpdated, FeedbackSubmitted, TicketOpened, TicketReplied, TicketStatusChanged)
async def count(events: list[Counted], ctx: Context) -> None:
    """Add a batch of events to the rollups. Backfill (imported history) is counted like live events."""
    await service.count(ctx.session, events)
