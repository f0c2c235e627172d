"""Clocks as other rooms use them: those a batch of events moves, or those that fall due, and what is published of them.

Clocks of backfill (imported history) are settled by the times of events alone, and their `sla.breached` carries the
mark, too. It is published when the clock is breached for the first time; should an earlier reply be read later, the
clock is `achieved`, but what was published is not taken back.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TypeGuard, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.clocks import repository, telemetry
from escalation_svc.clocks.decisions import Clock, ClockState, Step, Terms, Transition, clock_id, ticket_cause
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
    "Clock", "ClockState", "Clocks", "Due", "TicketEvent", "clock_id", "find_clock", "lock", "lock_due",
    "measure_overdue", "moves_clock", "save", "ticket_cause",
]  # fmt: skip

TicketEvent = TicketOpened | TicketReplied | TicketStatusChanged
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


class Clocks:
    """The clocks of one transaction. `take` and `pass_time` answer what is to be published."""

    def __init__(self, targets: FirstResponse, clocks: Iterable[Clock] = ()) -> None:
        self._targets = targets
        self.by_id: dict[UUID, Clock] = {clock.clock_id: clock for clock in clocks}
        self.settled = Counter[ClockState]()
        """How the clocks of live tickets ended."""

    def take(self, event: TicketEvent) -> list[SlaBreached]:
        """What became of a ticket's clock by an event that moves it."""
        new = Clock.of_ticket(event.meta.tenant, event.ticket_id)
        clock = self.by_id.setdefault(new.clock_id, new)
        before = clock.state
        clock.read(self._transition(event))
        return self._ended(clock, before)

    def pass_time(self, clock: Clock, until: datetime) -> list[SlaWarned | SlaBreached]:
        """What becomes of a clock when all that happened before `until` is known."""
        before, warned = clock.state, clock.warned
        clock.pass_time(until)
        warnings = [_news_of(SlaWarned, clock, clock.warn_at)] if clock.warned and not warned else []
        return [*warnings, *self._ended(clock, before)]

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
        """Count a clock that has ended; the breach, if it is one."""
        if clock.state is before or clock.cause is None:
            return []
        if not clock.cause.backfill and clock.state is not ClockState.ACTIVE:
            self.settled[clock.state] += 1
        return [_news_of(SlaBreached, clock, clock.due_at)] if clock.state is ClockState.BREACHED else []


async def lock(session: AsyncSession, targets: FirstResponse, events: Iterable[Event]) -> Clocks:
    """The clocks these events may move, locked until the transaction ends."""
    moving = [event for event in events if moves_clock(event)]
    keys = [(event.meta.tenant, clock_id(event.meta.tenant, event.ticket_id)) for event in moving]
    return Clocks(targets, await CLOCKS.load(session, keys, lock=True))


async def lock_due(session: AsyncSession, consumer: str, limit: int) -> list[Due]:
    """Clocks the timer has something to do for, locked; how late it is for them is measured."""
    due = await repository.lock_due_clocks(session, consumer, limit)
    telemetry.observe_lateness(session, [each.lateness for each in due if each.clock.wake_at])
    return due


async def save(session: AsyncSession, clocks: Clocks) -> None:
    """Store the clocks that changed, and count those that ended."""
    await repository.save_clocks(session, clocks.by_id.values())
    telemetry.count_settled(session, clocks.settled)


async def measure_overdue(session: AsyncSession, consumer: str) -> None:
    """Set the gauge of the clocks past due that have not fired."""
    telemetry.CLOCKS_OVERDUE.set(await repository.count_overdue(session, consumer))


def _news_of(kind: type[News], clock: Clock, time: datetime | None) -> News:
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
