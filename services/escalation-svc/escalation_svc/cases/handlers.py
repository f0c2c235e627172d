"""The Kafka handler of escalation-svc: one for all types, because decisions about one type depend on the others."""

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
    """Build the handlers for these policies."""
    handlers = Handlers()

    @handlers.on(CustomerUpdated, FeedbackSubmitted, TicketOpened, TicketReplied, TicketStatusChanged)
    async def escalate(events: list[Input], ctx: Context) -> None:
        """Update customers and clocks; open cases by policy, with the customer as known at that point of the log."""
        await service.take(ctx.session, policies, events)

    return handlers
