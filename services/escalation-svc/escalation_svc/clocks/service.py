"""The interface of clocks for other rooms: load and change the clocks of a batch of events, or those that are due.

Clocks of backfill (imported history) are settled by the times of events alone; their `sla.breached` is marked as
backfill, too. It is published when the clock is first breached. If an earlier reply is consumed later, the clock
becomes `achieved`, but the published event is not revoked.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TypeGuard, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks import repository, telemetry
from escalation_svc.clocks.decisions import Clock, ClockState, Firing, Step, Terms, Transition, clock_id, ticket_cause
from escalation_svc.clocks.models import CLOCKS
from escalation_svc.clocks.repository import Due, find_clock
from escalation_svc.policies.service import FirstResponse
from touchpoint.contracts.base import Event
from touchpoint.contracts.escalations import SlaBreached, SlaMetric, SlaWarned
from touchpoint.contracts.touchpoints import (
    Author,
    Priority,
    TicketOpened,
    TicketReplied,
    TicketStatus,
    TicketStatusChanged,
)

__all__ = [
    "Clock", "ClockState", "Clocks", "Due", "Fired", "TicketEvent", "clock_id", "find_clock", "lock", "lock_due",
    "measure_overdue", "moves_clock", "save", "ticket_cause",
]  # fmt: skip

TicketEvent = TicketOpened | TicketReplied | TicketStatusChanged
Fired = SlaWarned | SlaBreached
"""Our own events about what the timer did."""
SlaEvent = TypeVar("SlaEvent", SlaWarned, SlaBreached)

_ENDED = (TicketStatus.RESOLVED, TicketStatus.CLOSED)


def moves_clock(event: Event) -> TypeGuard[TicketEvent]:
    """Whether the event can change a clock. Replies by customers or bots and internal notes cannot."""
    match event:
        case TicketOpened():
            return True
        case TicketReplied():
            return event.author is Author.AGENT and event.public
        case TicketStatusChanged():
            return event.status is TicketStatus.OPEN or event.status in _ENDED
    return False


class Clocks:
    """The clocks of one transaction. `take` and `pass_time` return the events to publish."""

    def __init__(self, targets: FirstResponse, clocks: Iterable[Clock] = ()) -> None:
        self._targets = targets
        self.by_id: dict[UUID, Clock] = {clock.clock_id: clock for clock in clocks}
        self.settled = Counter[ClockState]()
        """Number of clocks of live tickets that ended, by state."""

    def take(self, event: TicketEvent) -> list[SlaBreached]:
        """Apply an event to its ticket's clock; returns the breach if the event caused one."""
        clock = self._of(event)
        before = clock.state
        clock.read(self._transition(event))
        return self._ended(clock, before)

    def fold(self, event: Fired) -> None:
        """Take back what the timer published. Breaches of imported tickets follow from their events instead."""
        if not event.meta.backfill:
            self._of(event).fold(Firing.of(event))

    def pass_time(self, clock: Clock, until: datetime) -> list[SlaWarned | SlaBreached]:
        """Warn about or breach a clock, given that all events before `until` have been consumed."""
        before, warned = clock.state, clock.warned
        clock.pass_time(until)
        warnings = [_sla_event(SlaWarned, clock, clock.warn_at)] if clock.warned and not warned else []
        return [*warnings, *self._ended(clock, before)]

    def _of(self, event: TicketEvent | Fired) -> Clock:
        """The clock of the event's ticket."""
        new = Clock.of_ticket(event.meta.tenant, event.ticket_id)
        return self.by_id.setdefault(new.clock_id, new)

    def _transition(self, event: TicketEvent) -> Transition:
        match event:
            case TicketOpened():
                targets = self._targets.target_seconds
                priority = event.priority if event.priority in targets else Priority.NORMAL
                target = targets[priority]
                terms = Terms(event.customer_id, priority, target, target * self._targets.warn_at)
                return Transition(Step.OPENED, event.meta, terms)
            case TicketReplied():
                return Transition(Step.REPLIED, event.meta)
            case TicketStatusChanged():
                return Transition(Step.CLOSED if event.status in _ENDED else Step.REOPENED, event.meta)

    def _ended(self, clock: Clock, before: ClockState) -> list[SlaBreached]:
        """Count a clock that has ended; returns its breach if it was breached."""
        if clock.state is before or clock.cause is None:
            return []
        if not clock.cause.backfill and clock.state is not ClockState.ACTIVE:
            self.settled[clock.state] += 1
        return [_sla_event(SlaBreached, clock, clock.due_at)] if clock.state is ClockState.BREACHED else []


async def lock(session: AsyncSession, targets: FirstResponse, events: Iterable[Event]) -> Clocks:
    """Load the clocks that these events may change, and lock them until the transaction ends."""
    moving = [event for event in events if isinstance(event, Fired) or moves_clock(event)]
    keys = [(event.meta.tenant, clock_id(event.meta.tenant, event.ticket_id)) for event in moving]
    return Clocks(targets, await CLOCKS.load(session, keys, lock=True))


async def lock_due(session: AsyncSession, consumer: str, limit: int) -> list[Due]:
    """Load and lock the clocks on which the timer must act, and measure its lateness."""
    due = await repository.lock_due_clocks(session, consumer, limit)
    telemetry.observe_lateness(session, [each.lateness for each in due if each.clock.wake_at])
    return due


async def save(session: AsyncSession, clocks: Clocks) -> None:
    """Store the clocks that changed, and count those that ended."""
    await repository.save_clocks(session, clocks.by_id.values())
    telemetry.count_settled(session, clocks.settled)


async def measure_overdue(session: AsyncSession, consumer: str) -> None:
    """Set the gauge of clocks past due that have not fired."""
    telemetry.CLOCKS_OVERDUE.set(await repository.count_overdue(session, consumer))


def _sla_event(kind: type[SlaEvent], clock: Clock, time: datetime | None) -> SlaEvent:
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
