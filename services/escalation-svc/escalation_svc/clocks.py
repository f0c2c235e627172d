"""The first-response clock: a state machine over times of events, with no clock of its own.

              ticket.opened                first public reply of an agent, not after due
   waiting ───────────────────▶ active ──────────────────────────────────────────────────▶ achieved
                                │ ▲ │
         resolved or closed,    │ │ │  due passed: by the timer, or shown by what is read
         not after due, before  │ │ └──────────────────────────────────────────────────────▶ breached
         any reply              ▼ │ open again, still without a reply
                              cancelled ──▶ achieved (a reply dated before the closing is read after it)

Rules:

- The time of events decides, never the moment of reading; a reply or a closing exactly at the due time is in time.
- `achieved` and `breached` are final. A reply dated before the due time but read after the timer fired leaves the
  breach standing; `fulfilled_at` always tells the earliest reply read so far.
- A reply dated more than five minutes before the clock started is no response to the ticket and says nothing; less
  is put down to clocks that differ.
- What comes first ends it: a ticket resolved or closed before any reply cancels the clock (nobody is waiting any
  more); a reply at the same moment counts as first.
- Reopening a cancelled ticket starts the clock anew, from the reopening and with the full target, unless an agent has
  replied meanwhile. A closing dated before the start says nothing about the clock.
- A reply or a closing read before its ticket is remembered (`waiting`) and settles the clock when the ticket comes.
- Started by backfill: only events settle the clock, by their times; the timer never touches it.
- The first `ticket.opened` counts; another one for the same ticket changes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

from touchpoint.contracts.base import Meta
from touchpoint.contracts.touchpoints import Priority

CLOCKS_DIFFER = timedelta(minutes=5)
"""So much earlier than its ticket a reply may be dated and still be one."""

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


@dataclass(slots=True)
class Clock:
    """The first-response clock of one ticket. `version` counts its changes."""

    tenant_id: str
    clock_id: UUID
    ticket_id: str
    customer_id: str
    state: ClockState = ClockState.WAITING
    priority: Priority = Priority.NORMAL
    target_seconds: int = 0
    warn_at: datetime | None = None
    due_at: datetime | None = None
    warned: bool = False
    fulfilled_at: datetime | None = None
    closed_at: datetime | None = None
    cause: Meta | None = None
    """The event that started it, as of its last start; what derives from the clock derives from it."""
    version: int = 0
    stored: int = 0
    """The version its row has."""

    @classmethod
    def of_ticket(cls, tenant_id: str, ticket_id: str, customer_id: str) -> "Clock":
        """A clock that waits for its ticket."""
        return cls(tenant_id, clock_id(tenant_id, ticket_id), ticket_id, customer_id)

    def open(self, cause: Meta, customer_id: str, priority: Priority, target_seconds: int, warn_at: float) -> None:
        """The ticket was opened: start, and settle by what was read before. `warn_at` is a share of the target."""
        if self.cause is not None:
            return
        self.customer_id, self.priority, self.target_seconds = customer_id, priority, target_seconds
        self._start(cause, warn_at)

    def reply(self, at: datetime) -> None:
        """An agent replied in public."""
        if self._precedes_start(at) or (self.fulfilled_at is not None and self.fulfilled_at <= at):
            return
        self.fulfilled_at = at
        self.version += 1
        self._settle()

    def close(self, at: datetime) -> None:
        """The ticket was resolved or closed."""
        remembers = self.state is ClockState.WAITING and (self.closed_at is None or at < self.closed_at)
        ends = self.state is ClockState.ACTIVE and self.started_at is not None and at >= self.started_at
        if remembers or ends:
            self.closed_at = at
            self.version += 1
            self._settle()

    def reopen(self, cause: Meta, warn_at: float) -> None:
        """The ticket is open again."""
        if self.closed_at is None or cause.time <= self.closed_at:
            return
        if self.state is ClockState.WAITING:
            self.closed_at = None
            self.version += 1
        elif self.state is ClockState.CANCELLED and self.fulfilled_at is None:
            self._start(cause, warn_at)

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

    def _start(self, cause: Meta, warn_at: float) -> None:
        self.state, self.cause, self.warned = ClockState.ACTIVE, cause, False
        if self.fulfilled_at is not None and self._precedes_start(self.fulfilled_at):
            self.fulfilled_at = None
        if self.closed_at is not None and self.closed_at < cause.time:
            self.closed_at = None
        self.warn_at = cause.time + timedelta(seconds=self.target_seconds * warn_at)
        self.due_at = cause.time + timedelta(seconds=self.target_seconds)
        self.version += 1
        self._settle()

    def _precedes_start(self, at: datetime) -> bool:
        return self.started_at is not None and at < self.started_at - CLOCKS_DIFFER

    def _settle(self) -> None:
        """Let the first of reply and closing end the clock; later than due, the breach came before both."""
        if self.state not in (ClockState.ACTIVE, ClockState.CANCELLED):
            return
        assert self.due_at is not None
        ended = min((moment for moment in (self.fulfilled_at, self.closed_at) if moment is not None), default=None)
        if ended is None:
            self.state = ClockState.ACTIVE
        elif ended > self.due_at:
            self.state = ClockState.BREACHED
        else:
            self.state = ClockState.ACHIEVED if ended == self.fulfilled_at else ClockState.CANCELLED


def clock_id(tenant_id: str, ticket_id: str) -> UUID:
    """The id of a ticket's first-response clock."""
    return uuid5(ticket_cause(tenant_id, ticket_id), "first_response")
