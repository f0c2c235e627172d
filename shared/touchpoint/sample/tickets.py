"""Tickets: opened by customers, answered by bots and by people in shifts, solved, sometimes opened again."""

from typing import Any

from touchpoint.sample import texts
from touchpoint.sample.chance import weighted
from touchpoint.sample.dates import DAY, HOUR, MINUTE, next_contact, slowness
from touchpoint.sample.people import TEAM_ZONES, Customer
from touchpoint.sample.schedule import Schedule
from touchpoint.sample.surveys import after_ticket

SLOW_CHANNEL, SLOW_FACTOR, COMPARED_CHANNEL = "social", 4, "email"
"""The team that answers this channel takes this many times as long as the one that answers the compared channel."""

BROKEN_DAYS = 28
"""How long exports stay broken after the release."""
BROKEN_PERCENT = 14
"""Percent of customers who open a ticket about exports because of the release."""
_BROKEN_WEEKS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3)
"""The weeks after the release in which they do."""

_CHANNELS = weighted(email=38, chat=22, web=14, phone=12, social=10, app=4)
_SPEED = {"email": 100, "web": 100, "app": 80, "chat": 15, "phone": 10, SLOW_CHANNEL: SLOW_FACTOR * 100}
"""How long a first response takes by channel, in percent of an email's."""
_PRIORITIES = weighted(low=15, normal=58, high=20, urgent=7)
_HASTE = {"low": 160, "normal": 100, "high": 60, "urgent": 25}
_RESPONSE = 35 * MINUTE
"""How long the first response to an email takes on average, of normal priority and in office hours."""

_TOPICS = weighted(exports=10, delivery=16, billing=18, login=12, reader=18, booking=14, seats=12)
_PRODUCTS = {
    "exports": "Reports",
    "delivery": "Card reader",
    "billing": "Invoices",
    "login": "Account",
    "reader": "Card reader",
    "booking": "Bookings",
    "seats": "Account",
}
_NOTES = (
    "Asked finance about the tax rule.",
    "Same serial number as in the last ticket.",
    "Waiting for the warehouse.",
    "Could reproduce it on the test account.",
)
_REMARKS = (
    "Most questions about taxes come from one invoice template.",
    "Third customer this week whose parcel was crushed.",
    "Customers look for the export in the wrong menu.",
    "We need a better text for this error.",
)


def usual(schedule: Schedule, time: int, customer: Customer) -> None:
    """A ticket about anything; the next follows by the season."""
    _open(schedule, time, customer, schedule.chance.pick(_TOPICS))
    plan_ticket(schedule, time, customer)


def plan_ticket(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan the next ticket."""
    mean = 48 * 100 / customer.activity
    schedule.later(next_contact(schedule.chance, time, mean, customer.country.zone), usual, customer)


def about_exports(schedule: Schedule, time: int, customer: Customer) -> None:
    """A ticket because of the release that broke exports."""
    _open(schedule, time, customer, "exports")


def plan_broken_export(schedule: Schedule, time: int, customer: Customer) -> None:
    """Plan a ticket in the weeks after the release, for a part of the customers."""
    chance = schedule.chance
    if chance.happens(BROKEN_PERCENT):
        day = 7 * chance.pick(_BROKEN_WEEKS) + chance.below(6)
        schedule.later(next_contact(chance, time + day * DAY, 0, customer.country.zone), about_exports, customer)


class _Thread:
    """A ticket being written: the time of its last event, and the number of replies."""

    def __init__(self, schedule: Schedule, time: int, customer: Customer) -> None:
        self.schedule = schedule
        self.customer = customer
        self.time = time
        self.id = f"T-{schedule.number('ticket', 100_001)}"
        self.replies = 0
        self.changes = 0
        self.agent = f"agent-{customer.country.region.lower()}-{schedule.chance.between(1, 12)}"

    def reply(self, time: int, author: str, text: str, *, public: bool = True, author_id: str | None = None) -> None:
        """A reply, or an internal note."""
        self.replies, self.time = self.replies + 1, time
        data = {"ticket_id": self.id, "customer_id": self.customer.id, "reply_id": f"{self.id}-R{self.replies}"}
        data["author"] = author
        if not public:
            data["public"] = False  # type: ignore[assignment] # the only field that is no text
        data["author_id"] = author_id or self.customer.id
        data["text"] = text
        self.schedule.emit(time, "helpdesk", f"{self.id}-reply-{self.replies}", "ticket.replied", data)

    def agent_replies(self, time: int, occasion: str) -> None:
        """A public reply by a person of the team."""
        text = texts.sentence(self.schedule.chance, self.customer.country.language, occasion)
        self.reply(time, "agent", text, author_id=self.agent)

    def customer_replies(self, time: int, occasion: str) -> None:
        """A reply by the customer."""
        self.reply(time, "customer", texts.sentence(self.schedule.chance, self.customer.country.language, occasion))

    def status(self, time: int, status: str, by: str) -> None:
        """A change of the status."""
        self.changes, self.time = self.changes + 1, time
        data = {"ticket_id": self.id, "customer_id": self.customer.id, "status": status, "by": by}
        self.schedule.emit(time, "helpdesk", f"{self.id}-status-{self.changes}", "ticket.status_changed", data)


def _open(schedule: Schedule, time: int, customer: Customer, topic: str) -> None:
    chance, language = schedule.chance, customer.country.language
    thread = _Thread(schedule, time, customer)
    channel, priority = chance.pick(_CHANNELS), chance.pick(_PRIORITIES)
    title, text = texts.problem(chance, language, topic)
    data: dict[str, Any] = {"ticket_id": thread.id, "customer_id": customer.id, "channel": channel}
    data |= {"priority": priority, "title": title, "text": text, "language": language}
    data |= {"product": _PRODUCTS[topic], "tags": [topic]}
    schedule.emit(time, "helpdesk", f"{thread.id}-opened", "ticket.opened", data)
    if channel in ("chat", "email") and chance.happens(70):
        thread.reply(
            time + chance.between(2, 20), "bot", texts.sentence(chance, language, "ack"), author_id="bot-welcome"
        )
    if chance.happens(3):  # spam, or solved by the customer: closed without an answer
        thread.status(time + chance.between(2, 5) * DAY, "closed", "bot")
        return
    waited = _answer(schedule, thread, channel, priority)
    _remark(schedule, thread)
    broken = topic == "exports" and schedule.release <= time < schedule.release + BROKEN_DAYS * DAY
    _ask(schedule, thread, data, "broken" if broken else "waited" if waited > 12 * HOUR else "usual")
    _finish(schedule, thread)


def _answer(schedule: Schedule, thread: _Thread, channel: str, priority: str) -> int:
    """The conversation up to the solution; returns the seconds until the first response."""
    chance, opened = schedule.chance, thread.time
    pace = slowness(opened, TEAM_ZONES[thread.customer.country.region])
    effort = chance.even_effort(schedule.number(f"responses by {channel}"))
    waited = int(_RESPONSE * effort * pace) * _HASTE[priority] * _SPEED[channel] // 10_000
    if chance.happens(20):
        thread.reply(opened + waited // 2, "agent", chance.pick(_NOTES), public=False, author_id=thread.agent)
    solved_at_once = chance.happens(40)
    thread.agent_replies(opened + waited, "solved" if solved_at_once else "answer")
    if not solved_at_once:
        _discuss(schedule, thread, pace)
    if chance.happens(35):
        thread.customer_replies(thread.time + chance.between(3, 240) * MINUTE, "thanks")
    thread.status(thread.time + chance.between(1, 90) * MINUTE, "resolved", "agent")
    return waited


def _discuss(schedule: Schedule, thread: _Thread, pace: int) -> None:
    """The customer answers and the agent solves it; sometimes the ticket waits for the customer in between."""
    chance = schedule.chance
    if chance.happens(50):
        thread.status(thread.time + chance.between(5, 60), "pending", "agent")
    thread.customer_replies(thread.time + int(5 * HOUR * chance.effort()) + MINUTE, "follow_up")
    if chance.happens(25):
        thread.status(thread.time + chance.between(60, 600), "on_hold", "agent")
    thread.agent_replies(thread.time + int(3 * HOUR * chance.effort()) * pace + MINUTE, "solved")


def _remark(schedule: Schedule, thread: _Thread) -> None:
    """A colleague's remark because of the ticket, now and then."""
    chance = schedule.chance
    if chance.happens(4):
        number = schedule.number("remark")
        data = {"team": "support", "text": chance.pick(_REMARKS), "author_id": thread.agent}
        data |= {"customer_id": thread.customer.id, "ticket_id": thread.id, "submission_id": f"TF-{number}"}
        time = thread.time + chance.between(1, 30) * MINUTE
        schedule.emit(time, "team", f"remark-{number}", "team_feedback.submitted", data)


def _ask(schedule: Schedule, thread: _Thread, ticket: dict[str, Any], mood: str) -> None:
    """Who is angry answers the survey more often."""
    chance = schedule.chance
    if chance.happens(55 if mood == "broken" else 40):
        after_ticket(schedule, thread.time + chance.between(30, 1200) * MINUTE, thread.customer, ticket, mood)


def _finish(schedule: Schedule, thread: _Thread) -> None:
    """Close the ticket after days without a reply, or open it again."""
    chance = schedule.chance
    if chance.happens(7):
        thread.customer_replies(thread.time + chance.between(4, 60) * HOUR, "again")
        thread.status(thread.time + 1, "open", "customer")
        pace = slowness(thread.time, TEAM_ZONES[thread.customer.country.region])
        thread.agent_replies(thread.time + int(HOUR * chance.effort()) * pace + MINUTE, "solved")
        thread.status(thread.time + chance.between(5, 60) * MINUTE, "resolved", "agent")
    if chance.happens(60):
        thread.status(thread.time + 4 * DAY, "closed", "bot")
