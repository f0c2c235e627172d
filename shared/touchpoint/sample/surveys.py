"""Answers to surveys, with scores and texts that fit each other; reviews and ratings."""

from typing import Any

from touchpoint.sample import texts
from touchpoint.sample.chance import Chance, scores, weighted
from touchpoint.sample.dates import DAY, next_contact
from touchpoint.sample.people import Customer
from touchpoint.sample.schedule import Schedule

LATE_COSTS = 2
"""Points of the scale 0–10 that an answer is lower after a late delivery; 0 stays 0."""

_NPS_CHANNELS = weighted(email=55, app=20, web=20, sms=5)
_STAGES = weighted(use=50, support=20, billing=15, renewal=15)

CSAT_USUAL = scores(1, 6, 6, 10, 28, 50)
CSAT_AFTER_A_WAIT = scores(1, 12, 13, 20, 25, 30)
CSAT_BROKEN = scores(1, 34, 30, 20, 10, 6)
CSAT_LATE = scores(1, 22, 23, 25, 20, 10)
"""A hundred answers on the scale 1–5: usually, after hours of waiting, to tickets about exports after the release that
broke them, and to late deliveries."""

_SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7), "rating": (1, 5), "review": (1, 5)}
"""The lowest and the highest value by kind."""

_CES = scores(1, 4, 4, 6, 12, 22, 28, 24)
_CES_BROKEN = scores(1, 25, 25, 20, 12, 10, 5, 3)
_RATING = scores(1, 6, 6, 12, 32, 44)


def _text(chance: Chance, data: dict[str, Any], language: str, occasion: str, percent: int) -> None:
    """Give an answer a text in this share of cases."""
    if chance.happens(percent):
        data["text"] = texts.remark(chance, language, occasion)
        data["language"] = language


def _scored(kind: str, channel: str, customer: Customer | None, value: int) -> dict[str, Any]:
    low, high = _SCALES[kind]
    data: dict[str, Any] = {"kind": kind, "channel": channel}
    if customer is not None:
        data["customer_id"] = customer.id
    data["score"] = {"value": value, "min": low, "max": high}
    return data


def _submit(schedule: Schedule, time: int, data: dict[str, Any]) -> None:
    number = schedule.number("answer")
    data["submission_id"] = f"S-{number}"
    schedule.emit(time, "surveys", f"answer-{number}", "feedback.submitted", data)


def relationship(schedule: Schedule, time: int, customer: Customer) -> None:
    """The question whether the customer recommends us; the next answer follows after about six weeks."""
    chance = schedule.chance
    table = customer.segment.nps
    # Each hundred answers of a segment have the scores of its table, so that its NPS stays within a few points.
    value = table[37 * schedule.number(customer.segment.label) % len(table)]
    if customer.delivered_late:
        value = max(0, value - LATE_COSTS)
    data = _scored("nps", chance.pick(_NPS_CHANNELS), customer, value)
    occasion = "promoter" if value > 8 else "passive" if value > 6 else "detractor"
    data |= {"survey_id": "relationship", "question_id": "recommend", "journey_stage": chance.pick(_STAGES)}
    if customer.delivered_late and value < 7 and chance.happens(50):
        occasion, data["journey_stage"] = "late", "delivery"
    _text(chance, data, customer.country.language, occasion, 45)
    _submit(schedule, time, data)
    plan_relationship(schedule, time, customer)


def plan_relationship(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next answer: at least three weeks later, not by the season, as the survey is sent evenly."""
    chance, zone = schedule.chance, customer.country.zone
    later = time + chance.between(20, 70) * DAY
    schedule.later(next_contact(chance, later, 0, zone), relationship, customer)


def after_ticket(schedule: Schedule, time: int, customer: Customer, ticket: dict[str, Any], mood: str) -> None:
    """The answer to the survey after a ticket. `mood`: usual, waited or broken."""
    chance, language = schedule.chance, customer.country.language
    table = {"usual": CSAT_USUAL, "waited": CSAT_AFTER_A_WAIT, "broken": CSAT_BROKEN}[mood]
    value = chance.pick(table)
    data = _scored("csat", ticket["channel"], customer, value)
    data |= {"survey_id": "after-ticket", "question_id": "satisfied", "journey_stage": "support"}
    data["product"] = ticket["product"]
    occasion = "satisfied" if value > 3 else "neutral" if value == 3 else "unsatisfied"
    _text(chance, data, language, "broken" if mood == "broken" and value < 3 else occasion, 40)
    _submit(schedule, time, data)
    if chance.happens(30):
        value = chance.pick(_CES_BROKEN if mood == "broken" else _CES)
        data = _scored("ces", ticket["channel"], customer, value)
        data |= {"survey_id": "after-ticket", "question_id": "easy", "journey_stage": "support"}
        _text(chance, data, language, "easy" if value > 4 else "hard", 30)
        _submit(schedule, time + chance.between(20, 90), data)


def after_delivery(schedule: Schedule, time: int, customer: Customer, *, late: bool) -> None:
    """The answer to the survey after a delivery."""
    chance = schedule.chance
    value = chance.pick(CSAT_LATE if late else CSAT_USUAL)
    data = _scored("csat", "email", customer, value)
    data |= {"survey_id": "after-delivery", "question_id": "satisfied", "journey_stage": "delivery"}
    data["product"] = "Card reader"
    if value < 4 and late:
        _text(chance, data, customer.country.language, "late", 60)
    elif value > 3:
        _text(chance, data, customer.country.language, "satisfied", 25)
    _submit(schedule, time, data)


def review(schedule: Schedule, time: int, customer: Customer) -> None:
    """A public review without a name, or a rating in the app; the next follows after months."""
    chance, language = schedule.chance, customer.country.language
    value = chance.pick(_RATING)
    occasion = "praise" if value > 3 else "mixed" if value == 3 else "complaint"
    if chance.happens(50):
        data = _scored("review", "social", None, value)
        _text(chance, data, language, occasion, 100)
    else:
        data = _scored("rating", "app", customer, value)
        _text(chance, data, language, occasion, 30)
    _submit(schedule, time, data)
    plan_review(schedule, time, customer)


def plan_review(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next review."""
    schedule.later(next_contact(schedule.chance, time, 300, customer.country.zone, private=True), review, customer)
