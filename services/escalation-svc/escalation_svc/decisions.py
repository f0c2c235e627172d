"""What is decided about events and the passing of time, in memory: nothing here touches the database.

Events marked as backfill (imported history) open no case, whatever the policies say: nobody is paged by history. Their
clocks are settled by the times of events alone, and `sla.breached` of such a clock carries the mark too. It is
published when the clock is first found breached; should an earlier reply be read later, the clock is `achieved`, but
what was published is not taken back.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeGuard, TypeVar
from uuid import UUID, uuid5

from escalation_svc.clocks import Clock, ClockState, Step, Terms, Transition, ticket_cause
from escalation_svc.customers import Customer
from escalation_svc.policies import Policies, Policy
from touchpoint.contracts.base import Event
from touchpoint.contracts.escalations import EscalationOpened, EscalationState, SlaBreached, SlaMetric, SlaWarned
from touchpoint.contracts.touchpoints import (
    Author,
    CustomerUpdated,
    FeedbackSubmitted,
    Priority,
    TicketOpened,
    TicketReplied,
    TicketStatus,
    TicketStatusChanged,
)

TicketEvent = TicketOpened | TicketReplied | TicketStatusChanged
Input = CustomerUpdated | FeedbackSubmitted | TicketEvent
Cause = FeedbackSubmitted | TicketOpened | SlaBreached
"""What policies can open a case for."""

CustomerKey = tuple[str, str]
News = TypeVar("News", SlaWarned, SlaBreached)

_ENDED = (TicketStatus.RESOLVED, TicketStatus.CLOSED)


def moves_clock(event: Event) -> TypeGuard[TicketEvent]:
    """Whether the event can change a clock: customers, bots and internal notes fulfil nothing."""
    match event:
        case TicketOpened():
            return True
        case TicketReplied():
            return event.author is Author.AGENT and event.public
        case TicketStatusChanged():
            return event.status is TicketStatus.OPEN or event.status in _ENDED
    return False


@dataclass(slots=True)
class Decisions:
    """The decisions of one transaction, on customers and clocks read before; `news` is what is to be published."""

    policies: Policies
    customers: dict[CustomerKey, Customer]
    clocks: dict[UUID, Clock]
    news: list[Event] = field(default_factory=list)
    updated: dict[CustomerKey, Customer] = field(default_factory=dict)
    cases: dict[UUID, EscalationOpened] = field(default_factory=dict)
    """The cases to open, which may be open already."""
    settled: Counter[ClockState] = field(default_factory=Counter)
    """How the clocks of live tickets ended."""

    def take(self, event: Input) -> None:
        """Decide about one event; call it in log order."""
        if isinstance(event, CustomerUpdated):
            self._update(event)
        if moves_clock(event):
            self._move_clock(event)
        if isinstance(event, FeedbackSubmitted | TicketOpened):
            self._consider(event)

    def pass_time(self, clock: Clock, until: datetime) -> None:
        """Decide about a clock when all that happened before `until` is known."""
        before, warned = clock.state, clock.warned
        clock.pass_time(until)
        if clock.warned and not warned:
            self.news.append(_of_clock(SlaWarned, clock, clock.warn_at))
        self._report(clock, before)

    def _update(self, event: CustomerUpdated) -> None:
        key = (event.meta.tenant, event.customer_id)
        customer = self.customers.setdefault(key, Customer(*key))
        customer.update(event)
        self.updated[key] = customer

    def _move_clock(self, event: TicketEvent) -> None:
        new = Clock.of_ticket(event.meta.tenant, event.ticket_id)
        clock = self.clocks.setdefault(new.clock_id, new)
        before = clock.state
        clock.read(self._transition(event))
        self._report(clock, before)

    def _transition(self, event: TicketEvent) -> Transition:
        match event:
            case TicketOpened():
                timing = self.policies.first_response
                known = event.priority if event.priority in timing.target_seconds else Priority.NORMAL
                target = timing.target_seconds[known]
                terms = Terms(event.customer_id, known, target, target * timing.warn_at)
                return Transition(Step.OPENED, event.meta, terms)
            case TicketReplied():
                return Transition(Step.REPLIED, event.meta)
            case TicketStatusChanged():
                return Transition(Step.CLOSED if event.status in _ENDED else Step.REOPENED, event.meta)

    def _report(self, clock: Clock, before: ClockState) -> None:
        """Say what became of the clock, if it is something new."""
        if clock.state is before or clock.cause is None:
            return
        if not clock.cause.backfill and clock.state is not ClockState.ACTIVE:
            self.settled[clock.state] += 1
        if clock.state is ClockState.BREACHED:
            breached = _of_clock(SlaBreached, clock, clock.due_at)
            self.news.append(breached)
            self._consider(breached)

    def _consider(self, cause: Cause) -> None:
        """Open a case if a policy asks for one. The same cause and policy always make the same case."""
        if cause.meta.backfill:
            return
        customer = self.customers.get((cause.meta.tenant, cause.customer_id)) if cause.customer_id else None
        policy = self.policies.match(cause, customer)
        if policy is None:
            return
        case = _case(cause, policy)
        if self.cases.setdefault(case.escalation_id, case) is case:
            self.news.append(case)


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


def _of_clock(kind: type[News], clock: Clock, time: datetime | None) -> News:
    assert clock.cause is not None
    assert clock.due_at is not None
    assert clock.customer_id is not None
    event = kind(
        clock_id=clock.clock_id,
        clock_version=clock.version,
        metric=SlaMetric.FIRST_RESPONSE,
        ticket_id=clock.ticket_id,
        customer_id=clock.customer_id,
        priority=clock.priority,
        target_seconds=clock.target_seconds,
        started_at=clock.cause.time,
        due_at=clock.due_at,
    )
    return event.caused_by(clock.cause, time=time)
