"""A whole world: who is a customer from the start, who joins when, and the release that breaks exports."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from touchpoint.sample import revenue, tickets
from touchpoint.sample.dates import DAY, HOUR, next_contact
from touchpoint.sample.people import Customer
from touchpoint.sample.schedule import Frame, Made, Schedule

VERSION = 1
"""Raised whenever the generator writes other events: they then have other sources, so that no id is used twice."""

EARLY_PERCENT = 45
"""Percent of the customers who are there from the start; the others join evenly while the company grows."""


def key(frame: Frame) -> str:
    """What distinguishes a world from all others: eight hexadecimal digits, part of the source of its events."""
    arguments = f"{VERSION}/{frame.customers}/{frame.days}/{frame.seed}/{frame.start}"
    return hashlib.sha256(arguments.encode()).hexdigest()[:8]


def events(frame: Frame, until: int | None = None) -> Iterator[Made]:
    """The events of a world in order of time, made while they are read.

    `until`: seconds since 1970, excluded. Without it there is no end: life goes on after the growth. What comes before
    a moment does not depend on `until`.
    """
    schedule = Schedule(frame, f"/sample/{key(frame)}")
    first = _made(schedule)
    schedule.later(frame.start, _enter, first)
    # A copy, which never leaves: otherwise the release would be left out when the first customer does.
    schedule.later(schedule.release, _release, replace(first))
    made = schedule.run()
    return made if until is None else takewhile(lambda event: event.time < until, made)


def _early(frame: Frame) -> int:
    return max(1, frame.customers * EARLY_PERCENT // 100)


def _made(schedule: Schedule) -> Customer:
    """The next customer, who has not come yet."""
    number = schedule.number("customer", 0)
    return schedule.accounts.customer(schedule.chance, number, early=number < _early(schedule.frame))


def _enter(schedule: Schedule, time: int, customer: Customer) -> None:
    """A customer comes, and the next is made, who comes later."""
    frame, early = schedule.frame, _early(schedule.frame)
    if customer.number < early:
        revenue.exist(schedule, time, customer)
    else:
        schedule.later(next_contact(schedule.chance, time, 0, customer.country.zone), revenue.join, customer)
    if (following := customer.number + 1) < frame.customers:
        if following < early:
            then = frame.start + following * HOUR // early
        else:
            then = frame.start + (following - early + 1) * frame.days * DAY // (frame.customers - early + 2)
        schedule.later(max(time, then), _enter, _made(schedule))


def _release(schedule: Schedule, time: int, _: Customer) -> None:
    """The release is out: a part of the customers will open a ticket about exports."""
    for customer in schedule.customers:
        if customer.active:
            tickets.plan_broken_export(schedule, time, customer)
