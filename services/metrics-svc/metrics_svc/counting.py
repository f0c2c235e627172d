"""What events count for. Pure: state of customers and tickets goes in, their new state and the counts come out.

The times of a ticket are the earliest ones seen, whatever the order they are read in; when an earlier one turns up,
what was counted is taken back and counted anew. So the same events give the same sums in any order, provided that each
customer's `customer.updated` keep their place among that customer's answers and tickets: they do, in one partition.
An update that comes late all the same (redriven, replayed) tells what no later one told, of what is counted from then.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from metrics_svc import sketch
from metrics_svc.measures import NPS_SCALE, UNKNOWN, Metric, Scale
from metrics_svc.periods import hour
from touchpoint.contracts.order import last_words
from touchpoint.contracts.touchpoints import (
    Author,
    CustomerUpdated,
    FeedbackKind,
    FeedbackSubmitted,
    Score,
    TicketOpened,
    TicketReplied,
    TicketStatus,
    TicketStatusChanged,
)
from touchpoint.errors import PermanentError

Counted = CustomerUpdated | FeedbackSubmitted | TicketOpened | TicketReplied | TicketStatusChanged
"""The events that count, or that say what a count is told apart by."""

SCORES = {
    FeedbackKind.NPS: Metric.NPS,
    FeedbackKind.CSAT: Metric.CSAT,
    FeedbackKind.CES: Metric.CES,
}
SOLVED = frozenset({TicketStatus.RESOLVED, TicketStatus.CLOSED})

CLOCK_SKEW = timedelta(minutes=5)
"""How far two systems' clocks may differ, as at the gateway. An end so little before its beginning took no time; one
further back is no response to it, and no measurement: 0 would flatter."""

Key = tuple[str, str]
"""Tenant and customer, or tenant and ticket."""


class Customer(NamedTuple):
    """What a customer's answers and tickets are told apart by, and `Told` in JSON: who said so."""

    segment: str = UNKNOWN
    tier: str = UNKNOWN
    told: str = "{}"

    @property
    def group(self) -> tuple[str, str]:
        """Segment and tier, as a cell has them."""
        return self.segment, self.tier


GROUPED_BY = frozenset({"segment", "tier"})


class Opening(NamedTuple):
    """How a ticket began; of several, the smallest counts, which is the earliest."""

    at: datetime
    channel: str
    segment: str
    tier: str


class Ticket(NamedTuple):
    """What is known of a ticket. A reply or a resolution seen before its opening waits here."""

    opening: Opening | None = None
    replied_at: datetime | None = None
    resolved_at: datetime | None = None

    def durations(self) -> set[tuple[Metric, Opening, datetime]]:
        """What can be measured: the metric, from where, until when."""
        if self.opening is None:
            return set()
        ends = ((Metric.FIRST_RESPONSE, self.replied_at), (Metric.RESOLUTION, self.resolved_at))
        earliest = self.opening.at - CLOCK_SKEW
        return {(metric, self.opening, end) for metric, end in ends if end and end >= earliest}


class Cell(NamedTuple):
    """One row of the rollups: everything but its sums, in the order of the primary key."""

    tenant_id: str
    metric: str
    hour: datetime
    scale: str
    channel: str
    segment: str
    tier: str
    bucket: int
    partition: int


class Sums(NamedTuple):
    """What is added to a cell."""

    n: int = 0
    total: int = 0


def counts(event: Counted) -> bool:
    """Whether an event matters here: the others need no state."""
    match event:
        case FeedbackSubmitted():
            return event.kind in SCORES
        case TicketReplied():
            return event.author == Author.AGENT and event.public
        case TicketStatusChanged():
            return event.status in SOLVED
        case CustomerUpdated():
            return not event.model_fields_set.isdisjoint(GROUPED_BY)
        case _:
            return True


def customer_keys(events: Iterable[Counted]) -> set[Key]:
    """The customers whose state these events need."""
    telling = (event for event in events if isinstance(event, CustomerUpdated | FeedbackSubmitted | TicketOpened))
    return {(event.meta.tenant, event.customer_id) for event in telling if event.customer_id is not None}


def ticket_keys(events: Iterable[Counted]) -> set[Key]:
    """The tickets these events touch."""
    of_tickets = (event for event in events if isinstance(event, TicketOpened | TicketReplied | TicketStatusChanged))
    return {(event.meta.tenant, event.ticket_id) for event in of_tickets}


class Ledger:
    """A batch being counted: takes the state its events need, then the events in log order."""

    def __init__(self, customers: dict[Key, Customer], tickets: dict[Key, Ticket]) -> None:
        self._customers_before, self._tickets_before = customers, tickets
        self._customers, self._tickets = dict(customers), dict(tickets)
        self._cells: dict[Cell, list[int]] = {}

    @property
    def customers(self) -> dict[Key, Customer]:
        """The customers that are no longer as they were."""
        return {key: now for key, now in self._customers.items() if self._customers_before.get(key) != now}

    @property
    def tickets(self) -> dict[Key, Ticket]:
        """The tickets that are no longer as they were."""
        return {key: now for key, now in self._tickets.items() if self._tickets_before.get(key) != now}

    @property
    def cells(self) -> dict[Cell, Sums]:
        """What to add to the rollups; what was counted and taken back in one batch is left out."""
        return {cell: Sums(*sums) for cell, sums in self._cells.items() if any(sums)}

    def count(self, event: Counted) -> None:
        """Count one event. Raises PermanentError for a score off the scale its kind is counted on."""
        match event:
            case FeedbackSubmitted():
                self._score(event)
            case CustomerUpdated():
                self._know(event)
            case TicketOpened():
                ticket = self._ticket(event)
                opening = Opening(event.meta.time, str(event.channel), *self._customer(event).group)
                self._settle(event, ticket._replace(opening=min(ticket.opening or opening, opening)))
            case TicketReplied():
                ticket = self._ticket(event)
                self._settle(event, ticket._replace(replied_at=_earliest(ticket.replied_at, event.meta.time)))
            case TicketStatusChanged():
                ticket = self._ticket(event)
                self._settle(event, ticket._replace(resolved_at=_earliest(ticket.resolved_at, event.meta.time)))

    def _know(self, event: CustomerUpdated) -> None:
        customer = self._customer(event)
        told = json.loads(customer.told)
        news = {name: getattr(event, name) or UNKNOWN for name in last_words(told, event, GROUPED_BY)}
        self._customers[event.meta.tenant, event.customer_id] = customer._replace(
            **news, told=json.dumps(told, sort_keys=True)
        )

    def _score(self, event: FeedbackSubmitted) -> None:
        meta, (scale, value) = event.meta, _whole(event.kind, event.score)
        told = (SCORES[event.kind], hour(meta.time), scale, str(event.channel), *self._customer(event).group)
        self._add(Cell(meta.tenant, *told, value, meta.partition), 1, value)

    def _settle(self, event: TicketOpened | TicketReplied | TicketStatusChanged, now: Ticket) -> None:
        """Count what can be measured now and could not before; take back what is no longer so."""
        before, after = self._ticket(event).durations(), now.durations()
        self._tickets[event.meta.tenant, event.ticket_id] = now
        for sign, changed in ((-1, before - after), (1, after - before)):
            for metric, opening, end in changed:
                took = sketch.microseconds(end - opening.at)
                told = (metric, hour(end), "", opening.channel, opening.segment, opening.tier)
                cell = Cell(event.meta.tenant, *told, bucket=sketch.bucket(took), partition=event.meta.partition)
                self._add(cell, sign, sign * took)

    def _add(self, cell: Cell, n: int, total: int) -> None:
        sums = self._cells.setdefault(cell, [0, 0])
        sums[0] += n
        sums[1] += total

    def _customer(self, event: CustomerUpdated | FeedbackSubmitted | TicketOpened) -> Customer:
        return self._customers.get((event.meta.tenant, event.customer_id or ""), Customer())

    def _ticket(self, event: TicketOpened | TicketReplied | TicketStatusChanged) -> Ticket:
        return self._tickets.get((event.meta.tenant, event.ticket_id), Ticket())


def _earliest(known: datetime | None, other: datetime) -> datetime:
    return min(known or other, other)


def _whole(kind: FeedbackKind, score: Score | None) -> tuple[str, int]:
    """The scale and the score in whole numbers. Raises PermanentError where there are none."""
    if score is None:
        raise PermanentError(f"{kind} needs a score: it cannot be counted")
    return _whole_numbers(kind, score.min, score.max, score.value)


@lru_cache(1000)
def _whole_numbers(kind: FeedbackKind, low: float, high: float, value: float) -> tuple[str, int]:
    """Consumers read tolerantly, so the gateway's rules are checked again; there are few scales and few answers."""
    if not (low.is_integer() and high.is_integer() and value.is_integer()):
        raise PermanentError(f"{kind} needs whole numbers: it cannot be counted")
    scale = Scale(int(low), int(high))
    if not scale.low <= value <= scale.high or (kind == FeedbackKind.NPS and scale != NPS_SCALE):
        raise PermanentError(f"the score of {kind} is off its scale: it cannot be counted")
    return str(scale), int(value)
