"""How events are counted. Pure: takes stored state, returns the rows to store.

The result does not depend on the order in which events are consumed. So state that later events may need is kept:

- of a ticket, its opening and the replies and closings that may be the first one after it; when an earlier opening,
  reply or closing is consumed, the old measurement is subtracted and the new one added;
- of a customer, every change of segment or tier, and every answer with the segment and tier it is counted under; when a
  change is consumed that was in force at the time of an answer or an opening, the measurement moves to another row.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from metrics_svc.catalogue.service import NPS_SCALE, UNKNOWN, Metric, Scale, quarter
from metrics_svc.counting import sketch
from metrics_svc.counting.models import Answer, Cell, Change, Group, Moment
from touchpoint.base.errors import PermanentError
from touchpoint.contracts.order import CLOCKS_DIFFER
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

Counted = CustomerUpdated | FeedbackSubmitted | TicketOpened | TicketReplied | TicketStatusChanged
"""The events that are counted or that set the group under which others are counted."""

SCORES = {
    FeedbackKind.NPS: Metric.NPS,
    FeedbackKind.CSAT: Metric.CSAT,
    FeedbackKind.CES: Metric.CES,
}
SOLVED = frozenset({TicketStatus.RESOLVED, TicketStatus.CLOSED})
GROUPED_BY = frozenset({"segment", "tier"})

Key = tuple[str, str]
"""Tenant and customer, or tenant and ticket."""

NOBODY = Group()
"""The group of answers that name no customer."""


class Opening(NamedTuple):
    """The opening of a ticket. Of several openings the earliest counts, then the one recorded first, then by id."""

    at: datetime
    recorded_at: datetime
    event_id: UUID
    customer_id: str
    channel: str
    segment: str
    tier: str

    def within(self, group: Group) -> "Opening":
        """The same opening, counted under another group."""
        return self._replace(segment=group.segment, tier=group.tier)


class Ticket(NamedTuple):
    """A ticket's relevant times. `replies` and `solutions` are sorted, up to the first that belongs to the opening.

    Later ones can never matter: an opening can only be replaced by an earlier one.
    """

    opening: Opening | None = None
    replies: tuple[datetime, ...] = ()
    solutions: tuple[datetime, ...] = ()

    def opened(self, opening: Opening) -> "Ticket":
        """The ticket with a further opening."""
        ticket = self._replace(opening=min(self.opening or opening, opening))
        return ticket._replace(replies=ticket._needed(self.replies), solutions=ticket._needed(self.solutions))

    def replied(self, at: datetime) -> "Ticket":
        """The ticket with a further reply."""
        return self._replace(replies=self._needed(_with(self.replies, at)))

    def solved(self, at: datetime) -> "Ticket":
        """The ticket with a further resolution or closing."""
        return self._replace(solutions=self._needed(_with(self.solutions, at)))

    def durations(self) -> set[tuple[Metric, Opening, datetime]]:
        """The durations that can be measured: metric, opening, end."""
        if self.opening is None:
            return set()
        ends = ((Metric.FIRST_RESPONSE, self.replies), (Metric.RESOLUTION, self.solutions))
        return {(metric, self.opening, known[-1]) for metric, known in ends if known and self._belongs(known[-1])}

    def _needed(self, ends: tuple[datetime, ...]) -> tuple[datetime, ...]:
        if self.opening is None:
            return ends
        return ends[: bisect_left(ends, self.opening.at - CLOCKS_DIFFER) + 1]

    def _belongs(self, end: datetime) -> bool:
        """Whether the end belongs to the opening: it is at most `CLOCKS_DIFFER` older."""
        return self.opening is not None and end >= self.opening.at - CLOCKS_DIFFER


class Sums(NamedTuple):
    """Amounts to add to a cell."""

    n: int = 0
    total: int = 0


class Changed(NamedTuple):
    """A customer whose segment or tier a batch changes: from when on, which fields, and the partition of the event."""

    since: datetime
    fields: frozenset[str]
    partition: int


def counts(event: Counted) -> bool:
    """Whether an event affects any count; others are skipped."""
    match event:
        case FeedbackSubmitted():
            return event.kind in SCORES
        case TicketReplied():
            return event.author == Author.AGENT and event.public
        case TicketStatusChanged():
            return event.status in SOLVED
        case CustomerUpdated():
            return not event.given.isdisjoint(GROUPED_BY)
        case _:
            return True


def ticket_keys(events: Iterable[Counted]) -> set[Key]:
    """The tickets that these events are about."""
    of_tickets = (event for event in events if isinstance(event, TicketOpened | TicketReplied | TicketStatusChanged))
    return {(event.meta.tenant, event.ticket_id) for event in of_tickets}


def changes(events: Iterable[Counted]) -> list[Change]:
    """The changes of segment or tier in these events, as rows of `changes`."""
    return [
        Change(
            tenant_id=event.meta.tenant,
            customer_id=event.customer_id,
            at=event.meta.time,
            recorded_at=event.meta.recorded,
            event_id=event.meta.identity,
            **{name: (getattr(event, name) or UNKNOWN) if name in given else None for name in Group._fields},
        )
        for event in events
        if isinstance(event, CustomerUpdated)
        for given in (event.given,)
    ]


def changed(events: Iterable[Counted]) -> dict[Key, Changed]:
    """The customers whose segment or tier these events change."""
    by_customer: dict[Key, Changed] = {}
    for event in events:
        if isinstance(event, CustomerUpdated):
            key, given = (event.meta.tenant, event.customer_id), event.given & GROUPED_BY
            before = by_customer.get(key, Changed(event.meta.time, frozenset(), event.meta.partition))
            by_customer[key] = Changed(min(before.since, event.meta.time), before.fields | given, event.meta.partition)
    return by_customer


def moments(events: Iterable[Counted], tickets: Mapping[Key, Ticket], answers: Iterable[Answer]) -> set[Moment]:
    """The customers and times whose groups are needed to count events and to regroup answers and tickets."""
    asked = {answer.moment for answer in answers}
    for event in events:
        if isinstance(event, FeedbackSubmitted | TicketOpened) and event.customer_id is not None:
            asked.add((event.meta.tenant, event.customer_id, event.meta.time))
    for (tenant, _), ticket in tickets.items():
        if ticket.opening is not None:
            asked.add((tenant, ticket.opening.customer_id, ticket.opening.at))
    return asked


class Ledger:
    """Counts a batch of events, given the tickets it needs and the group of each customer at each relevant time."""

    def __init__(self, tickets: Mapping[Key, Ticket], groups: Mapping[Moment, Group]) -> None:
        self._tickets_before, self._tickets, self._groups = tickets, dict(tickets), groups
        self._cells: dict[Cell, list[int]] = {}
        self.answers: list[Answer] = []
        """New answers to insert."""
        self.moved: list[Answer] = []
        """Stored answers that now belong to another group."""

    @property
    def tickets(self) -> dict[Key, Ticket]:
        """The tickets that changed."""
        return {key: now for key, now in self._tickets.items() if self._tickets_before.get(key) != now}

    @property
    def cells(self) -> dict[Cell, Sums]:
        """Amounts to add to the rollups, without cells whose sums are all zero."""
        return {cell: Sums(*sums) for cell, sums in self._cells.items() if any(sums)}

    def regroup(self, customers: Mapping[Key, Changed], answers: Sequence[Answer]) -> None:
        """Move earlier counts whose customer's group has changed."""
        for answer in answers:
            now = answer.within(self._groups[answer.moment])
            if now != answer:
                partition = customers[answer.tenant_id, answer.customer_id].partition
                self._add(answer.cell(partition), -1, -answer.score)
                self._add(now.cell(partition), 1, now.score)
                self.moved.append(now)
        for key, ticket in self._tickets.items():
            opening = ticket.opening
            if opening is not None and (owner := customers.get((key[0], opening.customer_id))) is not None:
                group = self._groups[key[0], opening.customer_id, opening.at]
                self._settle(key, ticket._replace(opening=opening.within(group)), owner.partition)

    def count(self, event: Counted) -> None:
        """Count one event. Raises PermanentError for a score off the scale its kind is counted on."""
        meta = event.meta
        match event:
            case FeedbackSubmitted():
                self._score(event)
            case TicketOpened():
                about = (meta.time, meta.recorded, meta.identity, event.customer_id, str(event.channel))
                opening = Opening(*about, *self._groups[meta.tenant, event.customer_id, meta.time])
                self._settle(_ticket(event), self._known(event).opened(opening), meta.partition)
            case TicketReplied():
                self._settle(_ticket(event), self._known(event).replied(meta.time), meta.partition)
            case TicketStatusChanged():
                self._settle(_ticket(event), self._known(event).solved(meta.time), meta.partition)

    def _score(self, event: FeedbackSubmitted) -> None:
        meta, (scale, value) = event.meta, _whole(event.kind, event.score)
        customer = event.customer_id
        group = NOBODY if customer is None else self._groups[meta.tenant, customer, meta.time]
        about = (meta.time, meta.identity, SCORES[event.kind], scale, str(event.channel), value)
        answer = Answer(meta.tenant, customer or "", *about, *group)
        if customer is not None:
            self.answers.append(answer)
        self._add(answer.cell(meta.partition), 1, value)

    def _settle(self, key: Key, now: Ticket, partition: int) -> None:
        """Add durations that are new and subtract those that no longer hold."""
        before, after = self._tickets.get(key, Ticket()).durations(), now.durations()
        self._tickets[key] = now
        for sign, different in ((-1, before - after), (1, after - before)):
            for metric, opening, end in different:
                took = sketch.microseconds(end - opening.at)
                about = (metric, quarter(end), "", opening.channel, opening.segment, opening.tier)
                self._add(Cell(key[0], *about, sketch.bucket(took), partition), sign, sign * took)

    def _add(self, cell: Cell, n: int, total: int) -> None:
        sums = self._cells.setdefault(cell, [0, 0])
        sums[0] += n
        sums[1] += total

    def _known(self, event: TicketOpened | TicketReplied | TicketStatusChanged) -> Ticket:
        return self._tickets.get(_ticket(event), Ticket())


def _ticket(event: TicketOpened | TicketReplied | TicketStatusChanged) -> Key:
    return event.meta.tenant, event.ticket_id


def _with(ends: tuple[datetime, ...], at: datetime) -> tuple[datetime, ...]:
    """The sorted times with `at` added, without duplicates."""
    if at in ends:
        return ends
    times = list(ends)
    insort(times, at)
    return tuple(times)


def _whole(kind: FeedbackKind, score: Score | None) -> tuple[str, int]:
    """The scale and the score as whole numbers. Raises PermanentError without a score or with fractions."""
    if score is None:
        raise PermanentError(f"{kind} needs a score: it cannot be counted")
    return _whole_numbers(kind, score.min, score.max, score.value)


@lru_cache(1000)
def _whole_numbers(kind: FeedbackKind, low: float, high: float, value: float) -> tuple[str, int]:
    """Validate again, as the gateway did: consumers read tolerantly. Cached, because few different scores occur."""
    if not (low.is_integer() and high.is_integer() and value.is_integer()):
        raise PermanentError(f"{kind} needs whole numbers: it cannot be counted")
    scale = Scale(int(low), int(high))
    if not scale.low <= value <= scale.high or (kind == FeedbackKind.NPS and scale != NPS_SCALE):
        raise PermanentError(f"the score of {kind} is off its scale: it cannot be counted")
    return str(scale), int(value)
