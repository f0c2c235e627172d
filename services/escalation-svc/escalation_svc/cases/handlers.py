"""The Kafka handler of escalation-svc: one for all types, because decisions about one type depend on the others."""

from typing import get_args

from escalation_svc.cases import service
from escalation_svc.cases.decisions import Input, Own
from escalation_svc.policies.service import Policies
from touchpoint.contracts.touchpoints import (
    CustomerUpdated,
    FeedbackSubmitted,
    TicketOpened,
    TicketReplied,
    TicketStatusChanged,
)
from touchpoint.kafka.handlers import Context, Handlers

OWN = get_args(Own)


def with_policies(policies: Policies) -> Handlers:
    """Build the handlers for these policies."""
    handlers = Handlers()

    @handlers.on(CustomerUpdated, FeedbackSubmitted, TicketOpened, TicketReplied, TicketStatusChanged, *OWN)
    async def escalate(events: list[Input], ctx: Context) -> None:
        """Update customers and clocks; open cases by policy, with the customer as known at that point of the log.

        Our own events change nothing, unless the database was restored from an older backup or is rebuilt.
        """
        await service.take(ctx.session, policies, events)

    return handlers
