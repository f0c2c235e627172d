"""The first-response clock of a ticket. Its state follows from the ticket's events and what the timer has published.

              ticket.opened                first public reply of an agent, not after due
   waiting ───────────────────▶ active ──────────────────────────────────────────────────▶ achieved
                                │ ▲ │
         resolved or closed,    │ │ │  due passed: the timer
         not after due, before  │ │ └──────────────────────────────────────────────────────▶ breached
         any reply              ▼ │ open again, still without a reply
                              cancelled

Rules:

- The events are stored (`history`) and applied in the order of their times, in whatever order they were consumed. Of
  events with equal times a reply comes first; otherwise the time of recording decides, then the id
  (`touchpoint.contracts.order`).
- The earliest `ticket.opened` counts. Until one is consumed the clock is `waiting`.
- A reply, closing or reopening dated at most `CLOCKS_DIFFER` before the opening belongs to the ticket, because the
  clocks of two systems differ. An older one does not belong to the ticket and is ignored.
- A reply or a closing exactly at the due time is in time.
- The first reply or closing ends the clock. Resolving or closing a ticket before any reply cancels its clock, because
  the customer no longer waits.
- Reopening a ticket whose clock is cancelled starts the clock again at the time of the reopening, with the full target,
  unless an agent has replied in between.
- Only the timer breaches the clock of a live ticket, once all events dated up to the due time have been consumed. The
  clock then stays `breached`, because the breach was published; `fulfilled_at` still shows the first reply.
- What the timer has published is stored as well (`fired`). A clock that reads its own `sla.*` events from Kafka,
  because its database was restored from an older backup or is rebuilt, ends in the same state, in whatever order.
- A clock started by a backfill event is never touched by the timer. It is breached when the event that ends it is dated
  after the due time.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Self
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from touchpoint.contracts.base import Meta
from touchpoint.contracts.escalations import SlaBreached, SlaWarned
from touchpoint.contracts.order import CLOCKS_DIFFER, Rank, rank
from touchpoint.contracts.touchpoints import Priority

TICKETS = uuid5(NAMESPACE_URL, "urn:touchpoint:ticket")


def ticket_cause(tenant_id: str, ticket_id: str) -> UUID:
    """The id of a ticket from which the ids of its clocks and cases are derived."""
    return uuid5(TICKETS, f"{tenant_id}\x1f{ticket_id}")


class ClockState(StrEnum):
    """The state of a clock; the module's docstring has the transitions."""

    WAITING = "waiting"
    ACTIVE = "active"
    ACHIEVED = "achieved"
    BREACHED = "breached"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """The kind of an event in a ticket's history."""

    OPENED = "opened"
    REPLIED = "replied"
    """An agent replied publicly."""
    CLOSED = "closed"
    """The ticket was resolved or closed."""
    REOPENED = "reopened"


class Firing(msgspec.Struct, frozen=True):
    """A warning or a breach that the timer has published: a decision, which nothing that is consumed later changes."""

    event_id: str
    breach: bool
    customer_id: str
    priority: Priority
    target_seconds: int
    started_at: datetime
    due_at: datetime

    @classmethod
    def of(cls, event: SlaWarned | SlaBreached) -> Self:
        """The firing that an event of a live ticket's clock reports."""
        return cls(
            event.meta.id,
            isinstance(event, SlaBreached),
            event.customer_id,
            event.priority,
            event.target_seconds,
            event.started_at,
            event.due_at,
        )


class Terms(msgspec.Struct, frozen=True):
    """The clock's terms, set by the ticket's opening and the policies in force when it was consumed."""

    customer_id: str
    priority: Priority
    target_seconds: int
    warn_seconds: float
    """Seconds after the start at which a warning is due."""


class Transition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of a ticket, reduced to what the clock needs."""

    step: Step
    cause: Meta
    terms: Terms | None = None
    """Only of an opening."""

    @property
    def at(self) -> datetime:
        """When the event occurred."""
        return self.cause.time

    @property
    def order(self) -> tuple[datetime, bool, Rank]:
        """Sort key among the ticket's transitions: time, replies first, then rank."""
        return self.at, self.step is not Step.REPLIED, rank(self.cause)


@dataclass(slots=True)
class Clock:
    """The first-response clock of one ticket. `version` counts its changes."""

    tenant_id: str
    clock_id: UUID
    ticket_id: str
    customer_id: str | None = None
    """The ticket's customer; None while the clock waits for `ticket.opened`."""
    state: ClockState = ClockState.WAITING
    priority: Priority = Priority.NORMAL
    target_seconds: int = 0
    warn_at: datetime | None = None
    due_at: datetime | None = None
    warned: bool = False
    fulfilled_at: datetime | None = None
    """Time of the first reply."""
    closed_at: datetime | None = None
    """Time of the closing that cancelled it."""
    cause: Meta | None = None
    """The event that last started the clock: the cause of the clock's SLA events."""
    history: list[Transition] = field(default_factory=list)
    """The ticket's transitions in order, without those that no event consumed later can make relevant."""
    fired: list[Firing] = field(default_factory=list)
    """What the timer has published about the clock."""
    version: int = 0
    stored: int = field(init=False)
    """The version of its stored row; 0 if it has none."""

    def __post_init__(self) -> None:
        self.stored = self.version

    @classmethod
    def of_ticket(cls, tenant_id: str, ticket_id: str) -> "Clock":
        """A new clock that waits for `ticket.opened`."""
        return cls(tenant_id, clock_id(tenant_id, ticket_id), ticket_id)

    def read(self, transition: Transition) -> None:
        """Apply a transition of the ticket. The order of calls does not matter; a repeated one changes nothing."""
        opening, reply = self._bounds()
        if opening is not None and transition.step is Step.OPENED and opening.order <= transition.order:
            return
        if reply is not None and transition.step is not Step.OPENED and reply.order <= transition.order:
            return
        place = bisect_left(self.history, transition.order, key=lambda each: each.order)
        if place < len(self.history) and self.history[place].order == transition.order:
            return
        self.history.insert(place, transition)
        self.version += 1
        self._settle()

    def fold(self, firing: Firing) -> None:
        """Take back a firing that its own event reports. The order of calls, also with `read`, does not matter."""
        if all(each.event_id != firing.event_id for each in self.fired):
            insort(self.fired, firing, key=attrgetter("event_id"))
            self.version += 1
            self._settle()

    def pass_time(self, until: datetime) -> None:
        """Warn or breach if due before `until`, given that all events before `until` have been consumed."""
        if self.wake_at is None or self.wake_at >= until:
            return
        assert self.due_at is not None
        if self.due_at < until:
            self.state = ClockState.BREACHED
            self._fire(SlaBreached)
        else:
            self.warned = True
            self._fire(SlaWarned)
        self.version += 1

    def _fire(self, kind: type[SlaWarned | SlaBreached]) -> None:
        assert self.cause is not None
        assert self.customer_id is not None
        assert self.due_at is not None
        firing = Firing(
            self.cause.causing(kind).id,
            kind is SlaBreached,
            self.customer_id,
            self.priority,
            self.target_seconds,
            self.cause.time,
            self.due_at,
        )
        insort(self.fired, firing, key=attrgetter("event_id"))

    @property
    def started_at(self) -> datetime | None:
        """When the clock was last started; None while it waits for `ticket.opened`."""
        if breach := self._breach:
            return breach.started_at
        return None if self.cause is None else self.cause.time

    @property
    def wake_at(self) -> datetime | None:
        """When the timer must act next, first to warn, then to breach; None if it never must."""
        if self.state is not ClockState.ACTIVE or self.cause is None or self.cause.backfill:
            return None
        return self.due_at if self.warned else self.warn_at

    @property
    def topic(self) -> str | None:
        """Topic of the event that started the clock. The timer waits until its partition is read past `wake_at`."""
        return None if self.cause is None else self.cause.topic

    @property
    def partition(self) -> int | None:
        """Partition of the event that started the clock."""
        return None if self.cause is None else self.cause.partition

    @property
    def _breach(self) -> Firing | None:
        return next((firing for firing in self.fired if firing.breach), None)

    def _bounds(self) -> tuple[Transition | None, Transition | None]:
        """The earliest opening, and the first reply to it.

        Events consumed later can only make both earlier, so transitions after that reply can never matter.
        """
        opening = next((each for each in self.history if each.step is Step.OPENED), None)
        if opening is None:
            return None, None
        replies = (each for each in self.history if each.step is Step.REPLIED and _belongs(each, opening))
        return opening, next(replies, None)

    def _settle(self) -> None:
        """Derive the clock's state from its history, and drop transitions that can never matter."""
        opening, reply = self._bounds()
        if opening is None:
            self._keep_firings()
            return
        self.history = [
            each
            for each in self.history
            if each is opening or (each.step is not Step.OPENED and (reply is None or each.order <= reply.order))
        ]
        self.fulfilled_at = None if reply is None else reply.at
        assert opening.terms is not None
        if self._breach is None or self.cause is None:
            self._run(opening, opening.terms)
        self._keep_firings()

    def _keep_firings(self) -> None:
        """A published breach is final, with the terms that it was published with; a warning is given once a start."""
        self.warned = any(not firing.breach and firing.started_at == self.started_at for firing in self.fired)
        if breach := self._breach:
            self.state, self.closed_at = ClockState.BREACHED, None
            self.customer_id, self.priority = breach.customer_id, breach.priority
            self.target_seconds, self.due_at = breach.target_seconds, breach.due_at

    def _run(self, opening: Transition, terms: Terms) -> None:
        """Apply the ticket's transitions in order, and set the resulting state, terms and times."""
        start = opening
        target, ended = timedelta(seconds=terms.target_seconds), ClockState.ACTIVE
        closed_at: datetime | None = None
        for step in self.history:
            if step is opening or not _belongs(step, opening):
                continue
            if step.step is Step.REOPENED:
                if closed_at is not None:
                    start, ended, closed_at = step, ClockState.ACTIVE, None
            elif closed_at is None:
                if step.at > start.at + target:
                    # Only the timer breaches a live clock, once no event dated in time can follow.
                    ended = ClockState.BREACHED if start.cause.backfill else ClockState.ACTIVE
                    break
                replied = step.step is Step.REPLIED
                ended = ClockState.ACHIEVED if replied else ClockState.CANCELLED
                closed_at = None if replied else step.at
        self.customer_id, self.priority, self.target_seconds = terms.customer_id, terms.priority, terms.target_seconds
        self.state, self.cause, self.closed_at = ended, start.cause, closed_at
        self.warn_at, self.due_at = start.at + timedelta(seconds=terms.warn_seconds), start.at + target


def _belongs(step: Transition, opening: Transition) -> bool:
    """Whether a transition belongs to the opened ticket: it is at most `CLOCKS_DIFFER` older than the opening."""
    return step.at >= opening.at - CLOCKS_DIFFER


def clock_id(tenant_id: str, ticket_id: str) -> UUID:
    """The id of a ticket's first-response clock."""
    return uuid5(ticket_cause(tenant_id, ticket_id), "first_response")
