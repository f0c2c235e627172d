"""The first-response clock of a ticket: a function of the ticket's events, and of what the timer has already done.

              ticket.opened                first public reply of an agent, not after due
   waiting ───────────────────▶ active ──────────────────────────────────────────────────▶ achieved
                                │ ▲ │
         resolved or closed,    │ │ │  due passed: the timer
         not after due, before  │ │ └──────────────────────────────────────────────────────▶ breached
         any reply              ▼ │ open again, still without a reply
                              cancelled

Rules:

- The events are kept (`history`) and read in the order of their times, whatever the order in which they came. Of equal
  times a reply comes first; otherwise the time of recording decides, then the id (`touchpoint.contracts.order`).
- The earliest `ticket.opened` counts. Until one is read the clock waits.
- What is dated before the opening by no more than `CLOCKS_DIFFER` belongs to the ticket: two systems' clocks differ.
  What is older belongs to something else. This holds for replies, closings and reopenings alike.
- A reply or a closing exactly at the due time is in time.
- What comes first ends the clock: a ticket resolved or closed before any reply cancels it (nobody waits any more).
- Reopening a cancelled ticket starts the clock anew, from the reopening and with the full target, unless an agent has
  replied meanwhile.
- Only the timer breaches the clock of a live ticket, once everything dated up to the due time has been read. From then
  on the clock stays `breached`, for that was published; `fulfilled_at` still shows the first reply.
- Started by backfill: the timer never touches it. It is breached when what ended it came after the due time.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from touchpoint.contracts.base import Meta
from touchpoint.contracts.order import CLOCKS_DIFFER, Rank, rank
from touchpoint.contracts.touchpoints import Priority

TICKETS = uuid5(NAMESPACE_URL, "urn:touchpoint:ticket")


def ticket_cause(tenant_id: str, ticket_id: str) -> UUID:
    """The identity of a ticket as a cause of clocks and cases."""
    return uuid5(TICKETS, f"{tenant_id}\x1f{ticket_id}")


class ClockState(StrEnum):
    """Where a clock stands; see the module."""

    WAITING = "waiting"
    ACTIVE = "active"
    ACHIEVED = "achieved"
    BREACHED = "breached"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """What happened to a ticket."""

    OPENED = "opened"
    REPLIED = "replied"
    """By an agent, in public."""
    CLOSED = "closed"
    """Resolved or closed."""
    REOPENED = "reopened"


class Terms(msgspec.Struct, frozen=True):
    """What an opening sets, by the policies in force when it was read."""

    customer_id: str
    priority: Priority
    target_seconds: int
    warn_seconds: float
    """After how much of the target a warning is due."""


class Transition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event of a ticket, with as much of it as the clock needs."""

    step: Step
    cause: Meta
    terms: Terms | None = None
    """Of an opening."""

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.cause.time

    @property
    def order(self) -> tuple[datetime, bool, Rank]:
        """Its place among the ticket's transitions."""
        return self.at, self.step is not Step.REPLIED, rank(self.cause)


@dataclass(slots=True)
class Clock:
    """The first-response clock of one ticket. `version` counts its changes."""

    tenant_id: str
    clock_id: UUID
    ticket_id: str
    customer_id: str | None = None
    """Whose ticket it is; None while it waits for its ticket."""
    state: ClockState = ClockState.WAITING
    priority: Priority = Priority.NORMAL
    target_seconds: int = 0
    warn_at: datetime | None = None
    due_at: datetime | None = None
    warned: bool = False
    fulfilled_at: datetime | None = None
    """The first reply."""
    closed_at: datetime | None = None
    """The closing that ended it."""
    cause: Meta | None = None
    """The event that started it, as of its last start; what derives from the clock derives from it."""
    history: list[Transition] = field(default_factory=list)
    """The ticket's transitions in order, without those that cannot matter any more whatever else is read."""
    version: int = 0
    stored: int = field(init=False)
    """The version its row has; 0 without a row."""

    def __post_init__(self) -> None:
        self.stored = self.version

    @classmethod
    def of_ticket(cls, tenant_id: str, ticket_id: str) -> "Clock":
        """A clock that waits for its ticket."""
        return cls(tenant_id, clock_id(tenant_id, ticket_id), ticket_id)

    def read(self, happened: Transition) -> None:
        """Take in what happened to the ticket, in any order; what was read before changes nothing."""
        opening, reply = self._bounds()
        if opening is not None and happened.step is Step.OPENED and opening.order <= happened.order:
            return
        if reply is not None and happened.step is not Step.OPENED and reply.order <= happened.order:
            return
        place = bisect_left(self.history, happened.order, key=lambda each: each.order)
        if place < len(self.history) and self.history[place].order == happened.order:
            return
        self.history.insert(place, happened)
        self.version += 1
        self._settle()

    def pass_time(self, until: datetime) -> None:
        """All that happened before `until` has been read: warn or breach if that is past."""
        if self.wake_at is None or self.wake_at >= until:
            return
        assert self.due_at is not None
        if self.due_at < until:
            self.state = ClockState.BREACHED
        else:
            self.warned = True
        self.version += 1

    @property
    def started_at(self) -> datetime | None:
        """When it started, the last time; None while it waits for its ticket."""
        return None if self.cause is None else self.cause.time

    @property
    def wake_at(self) -> datetime | None:
        """When the timer has something to do, if nothing happens before: warn, then breach."""
        if self.state is not ClockState.ACTIVE or self.cause is None or self.cause.backfill:
            return None
        return self.due_at if self.warned else self.warn_at

    @property
    def topic(self) -> str | None:
        """Of the event that started it: the timer waits until that partition is read past `wake_at`."""
        return None if self.cause is None else self.cause.topic

    @property
    def partition(self) -> int | None:
        """Of the same event."""
        return None if self.cause is None else self.cause.partition

    def _bounds(self) -> tuple[Transition | None, Transition | None]:
        """The earliest opening, and the first reply to it.

        What else is read can only make both earlier: of what comes after that reply nothing can matter any more.
        """
        opening = next((each for each in self.history if each.step is Step.OPENED), None)
        if opening is None:
            return None, None
        replies = (each for each in self.history if each.step is Step.REPLIED and _belongs(each, opening))
        return opening, next(replies, None)

    def _settle(self) -> None:
        """Derive everything from the history, and leave out of it what cannot matter any more."""
        opening, reply = self._bounds()
        if opening is None:
            return
        self.history = [
            each
            for each in self.history
            if each is opening or (each.step is not Step.OPENED and (reply is None or each.order <= reply.order))
        ]
        self.fulfilled_at = None if reply is None else reply.at
        if self.state is ClockState.BREACHED and self.cause is not None and not self.cause.backfill:
            return
        assert opening.terms is not None
        self._run(opening, opening.terms)

    def _run(self, opening: Transition, terms: Terms) -> None:
        """Go through the ticket's transitions until one of them ends the clock for good."""
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
                    # The timer breaches a live clock, when nothing in time can come any more.
                    ended = ClockState.BREACHED if start.cause.backfill else ClockState.ACTIVE
                    break
                replied = step.step is Step.REPLIED
                ended = ClockState.ACHIEVED if replied else ClockState.CANCELLED
                closed_at = None if replied else step.at
        if self.cause is not None and self.cause.identity != start.cause.identity:
            self.warned = False
        self.customer_id, self.priority, self.target_seconds = terms.customer_id, terms.priority, terms.target_seconds
        self.state, self.cause, self.closed_at = ended, start.cause, closed_at
        self.warn_at, self.due_at = start.at + timedelta(seconds=terms.warn_seconds), start.at + target


def _belongs(step: Transition, opening: Transition) -> bool:
    """Whether it is about this ticket, and not older than that by more than clocks differ."""
    return step.at >= opening.at - CLOCKS_DIFFER


def clock_id(tenant_id: str, ticket_id: str) -> UUID:
    """The id of a ticket's first-response clock."""
    return uuid5(ticket_cause(tenant_id, ticket_id), "first_response")
