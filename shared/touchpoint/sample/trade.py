"""Orders and deliveries, usage of the product, calls and meetings, remarks of sales."""

from typing import Any

from touchpoint.sample import dates, surveys
from touchpoint.sample.chance import weighted
from touchpoint.sample.dates import DAY, HOUR, MINUTE, hour_of, next_contact
from touchpoint.sample.people import Customer
from touchpoint.sample.schedule import Schedule
from touchpoint.sample.tickets import BROKEN_DAYS

LATE_PERCENT = 15
"""Percent of deliveries that are late."""

_KINDS = weighted(call=45, meeting=25, email=20, visit=4, event=6)
_MEETS = {"call": "phone", "meeting": "web", "email": "email", "visit": "store", "event": "partner"}
_OUTCOMES = ("question answered", "follow-up agreed", "offer sent", "problem solved")
_SALES = (
    "Wants a second site next year.",
    "Compares us with another offer because of the price.",
    "Would like the reports in the local language.",
    "New head of finance; introduce the export again.",
)


def _contact(schedule: Schedule, time: int, customer: Customer, kind: str, fields: dict[str, Any]) -> None:
    number = schedule.number("interaction")
    data = {"interaction_id": f"I-{number}", "customer_id": customer.id, "kind": kind} | fields
    schedule.emit(time, "shop", f"interaction-{number}", "interaction.recorded", data)


def order(schedule: Schedule, time: int, customer: Customer) -> None:
    """The customer orders, and gets it within days, or late; the next order follows by the season."""
    chance, zone = schedule.chance, customer.country.zone
    fields = {"direction": "inbound", "channel": "web", "outcome": "ordered", "journey_stage": "purchase"}
    _contact(schedule, time, customer, "purchase", fields)
    late = chance.happens(LATE_PERCENT)
    day = time // DAY + (chance.between(9, 21) if late else chance.between(2, 5))
    schedule.later(hour_of(chance, day, zone), deliver_late if late else deliver, customer)
    plan_order(schedule, time, customer)


def plan_order(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next order, at least a month later."""
    mean = 70 * 100 / customer.activity
    then = next_contact(schedule.chance, time + 28 * DAY, mean, customer.country.zone, private=True)
    schedule.later(then, order, customer)


def deliver(schedule: Schedule, time: int, customer: Customer) -> None:
    """A delivery on time."""
    _deliver(schedule, time, customer, late=False)


def deliver_late(schedule: Schedule, time: int, customer: Customer) -> None:
    """A late delivery: the customer gives lower scores until the next delivery."""
    _deliver(schedule, time, customer, late=True)


def _deliver(schedule: Schedule, time: int, customer: Customer, *, late: bool) -> None:
    chance = schedule.chance
    customer.delivered_late = late
    fields = {"direction": "outbound", "channel": "mail", "outcome": "late" if late else "on time"}
    _contact(schedule, time, customer, "delivery", fields | {"journey_stage": "delivery"})
    if chance.happens(25):
        surveys.after_delivery(schedule, time + chance.between(3, 40) * HOUR, customer, late=late)
    if chance.happens(4):
        fields = {"direction": "inbound", "channel": "mail", "outcome": "refunded", "journey_stage": "delivery"}
        _contact(schedule, time + chance.between(2, 9) * DAY, customer, "return", fields)


def meet(schedule: Schedule, time: int, customer: Customer) -> None:
    """A call, a meeting, a visit; the next follows by the season."""
    chance = schedule.chance
    kind = chance.pick(_KINDS)
    fields: dict[str, Any] = {"direction": "outbound" if chance.happens(55) else "inbound", "channel": _MEETS[kind]}
    if kind in ("call", "meeting", "visit"):
        fields["duration_seconds"] = 60 + int(14 * MINUTE * chance.effort())
    outcome = chance.pick(_OUTCOMES)
    if kind == "call" and fields["direction"] == "outbound" and chance.happens(20):
        fields["duration_seconds"], outcome = chance.between(5, 40), "nobody reached"
    fields |= {"outcome": outcome, "journey_stage": "renewal" if chance.happens(20) else "use"}
    _contact(schedule, time, customer, kind, fields)
    if chance.happens(6):
        number = schedule.number("remark")
        data = {"team": "sales", "text": chance.pick(_SALES), "author_id": customer.owner}
        data |= {"customer_id": customer.id, "submission_id": f"TF-{number}"}
        then = time + chance.between(20, 90) * MINUTE
        schedule.emit(then, "team", f"remark-{number}", "team_feedback.submitted", data)
    plan_meeting(schedule, time, customer)


def plan_meeting(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next call, meeting or visit."""
    schedule.later(next_contact(schedule.chance, time, 55, customer.country.zone), meet, customer)


def welcome(schedule: Schedule, time: int, customer: Customer) -> None:
    """The onboarding of a new customer."""
    fields: dict[str, Any] = {"direction": "outbound", "channel": "web"}
    fields["duration_seconds"] = schedule.chance.between(15, 75) * MINUTE
    fields |= {"outcome": "set up", "journey_stage": "onboarding"}
    _contact(schedule, time, customer, "onboarding", fields)


def report_usage(schedule: Schedule, time: int, customer: Customer) -> None:
    """What the customer used in the seven days up to this midnight; fewer exports while these are broken."""
    chance, end = schedule.chance, time - time % DAY
    for feature in customer.features:
        quantity = int(customer.activity * chance.effort() * dates.season(time // DAY))
        if feature == "payments":
            quantity *= 9
        elif schedule.release <= time < schedule.release + BROKEN_DAYS * DAY:
            quantity //= 4
        unit = "transactions" if feature == "payments" else "files"
        data = {"customer_id": customer.id, "feature": feature, "quantity": str(quantity), "unit": unit}
        data |= {"period_start": dates.text(end - 7 * DAY), "period_end": dates.text(end)}
        number = schedule.number("usage")
        schedule.emit(time, "product", f"usage-{number}", "usage.reported", data)
    plan_usage(schedule, time, customer)


def plan_usage(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next report: in the first two hours of a day, a week later."""
    midnight = time - time % DAY
    schedule.later(midnight + 7 * DAY + schedule.chance.below(2 * HOUR), report_usage, customer)
