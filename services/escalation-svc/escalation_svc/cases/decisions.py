"""Decisions about events and about time, in memory and without database access.

Events marked as backfill (imported history) never open a case, whatever the policies are: old events must alert nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from escalation_svc.clocks.service import Clock, Clocks, Fired, TicketEvent, moves_clock, ticket_cause
from escalation_svc.customers.service import Customers
from escalation_svc.policies.service import Policies, Policy
from touchpoint.contracts.base import Event
from touchpoint.contracts.escalations import (
    EscalationAcknowledged,
    EscalationOpened,
    EscalationResolved,
    EscalationState,
    SlaBreached,
)
from touchpoint.contracts.touchpoints import CustomerUpdated, FeedbackSubmitted, TicketOpened

CaseEvent = EscalationOpened | EscalationAcknowledged | EscalationResolved
Own = CaseEvent | Fired
"""The events that this service publishes itself: decisions that it takes back from Kafka if its database lacks them."""
Input = CustomerUpdated | FeedbackSubmitted | TicketEvent | Own
Cause = FeedbackSubmitted | TicketOpened | SlaBreached
"""The events for which policies can open a case."""


@dataclass(slots=True)
class Decisions:
    """The decisions of one transaction, on customers and clocks loaded before. `outgoing` are the events to publish."""

    policies: Policies
    customers: Customers
    clocks: Clocks
    outgoing: list[Event] = field(default_factory=list)
    cases: dict[UUID, EscalationOpened] = field(default_factory=dict)
    """The cases to open, by id; some of them may already be stored."""
    folded: list[CaseEvent] = field(default_factory=list)
    """Our own events about cases, which may be newer than the stored cases."""

    def take(self, event: Input) -> None:
        """Decide about one event. Call it in log order."""
        if isinstance(event, CaseEvent):
            self.folded.append(event)
        if isinstance(event, Fired):
            self.clocks.fold(event)
        if isinstance(event, CustomerUpdated):
            self.customers.update(event)
        if moves_clock(event):
            self._publish(self.clocks.take(event))
        if isinstance(event, FeedbackSubmitted | TicketOpened):
            self._consider(event)

    def pass_time(self, clock: Clock, until: datetime) -> None:
        """Decide about a clock once all events before `until` have been consumed."""
        self._publish(self.clocks.pass_time(clock, until))

    def _publish(self, outgoing: Iterable[Event]) -> None:
        """Add a clock's events to those to publish; a breach may open a case."""
        for event in outgoing:
            self.outgoing.append(event)
            if isinstance(event, SlaBreached):
                self._consider(event)

    def _consider(self, cause: Cause) -> None:
        """Open a case if a policy matches. The same cause and policy always result in the same case id."""
        if cause.meta.backfill:
            return
        customer = self.customers.get(cause.meta.tenant, cause.customer_id)
        policy = self.policies.match(cause, customer)
        if policy is None:
            return
        case = _case(cause, policy)
        if self.cases.setdefault(case.escalation_id, case) is case:
            self.outgoing.append(case)


def _case(cause: Cause, policy: Policy) -> EscalationOpened:
    if isinstance(cause, FeedbackSubmitted):
        root, feedback_id, ticket_id = cause.meta.identity, cause.meta.identity, None
    else:
        root, feedback_id, ticket_id = ticket_cause(cause.meta.tenant, cause.ticket_id), None, cause.ticket_id
    case = EscalationOpened(
        escalation_id=uuid5(root, policy.name),
        case_version=1,
        customer_id=cause.customer_id,
        reason=policy.reason,
        policy=policy.name,
        priority=policy.priority,
        state=EscalationState.OPEN,
        feedback_id=feedback_id,
        ticket_id=ticket_id,
        opened_at=cause.meta.time,
    )
    return case.caused_by(cause.meta)
