"""What escalation-svc does with events: one projection, because each of these types bears on what another one means."""

from escalation_svc.cases import service
from escalation_svc.cases.decisions import Input
from escalation_svc.policies.service import Policies
from touchpoint.contracts.touchpoints import (
    CustomerUpdated,
    FeedbackSubmitted,
    TicketOpened,
    TicketReplied,
    TicketStatusChanged,
)
from touchpoint.kafka.handlers import Context, Handlers


def with_policies(policies: Policies) -> Handlers:
    """The handlers, for these policies."""
    handlers = Handlers()

    @handlers.on(CustomerUpdated, FeedbackSubmitted, TicketOpened, TicketReplied, TicketStatusChanged)
    async def escalate(events: list[Input], ctx: Context) -> None:
        """Keep the clocks and open a case for whatever a policy asks for, with the customer as known at that point."""
        await service.take(ctx.session, policies, events)

    return handlers
