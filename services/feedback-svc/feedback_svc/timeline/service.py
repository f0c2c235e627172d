"""Converts events to timeline entries: title, details and time."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from feedback_svc.timeline.models import Entry
from touchpoint.contracts.base import Event
from touchpoint.contracts.escalations import (
    EscalationAcknowledged,
    EscalationOpened,
    EscalationResolved,
    SlaBreached,
    SlaWarned,
)
from touchpoint.contracts.touchpoints import (
    CustomerUpdated,
    FeedbackSubmitted,
    InteractionRecorded,
    SubscriptionChanged,
    TeamFeedbackSubmitted,
    TicketOpened,
    TicketReplied,
    TicketStatusChanged,
    UsageReported,
)

TEXT_LENGTH = 2_000
"""Characters of each text kept in an entry's details. It is enough to read, and a page of 200 entries stays small."""

TITLE_LENGTH = 200


def timeline_entry(event: Event) -> Entry | None:
    """The event's timeline entry; None if the event names no customer."""
    customer_id = getattr(event, "customer_id", None)
    if customer_id is None:
        return None
    meta = event.meta
    title = " ".join(TITLES[type(event)](event).split())
    return Entry(
        tenant_id=meta.tenant,
        customer_id=customer_id,
        occurred_at=meta.time,
        id=meta.identity,
        type=event.type,
        title=cut(title, TITLE_LENGTH),
        details=details(event),
        recorded_at=meta.known_at,
    )


def details(event: Event) -> str:
    """The event's data as JSON, with texts cut to `TEXT_LENGTH` characters."""
    data = event.data().decode()
    if len(data) <= TEXT_LENGTH:
        return data
    return json.dumps({k: cut(v, TEXT_LENGTH) if isinstance(v, str) else v for k, v in json.loads(data).items()})


def cut(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis; at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _spaced(value: str) -> str:
    return value.replace("_", " ")


def _feedback(event: FeedbackSubmitted) -> str:
    score = event.score
    return _answer(event.kind, event.channel, *((score.value, score.min, score.max) if score else ()))


@lru_cache(1000)  # few different answers occur
def _answer(kind: str, channel: str, *score: float) -> str:
    name = kind.upper() if kind in ("nps", "csat", "ces") else kind.capitalize()
    if not score:
        return f"{name} by {channel}"
    value, low, high = score
    return f"{name} {value:g} on {low:g}–{high:g} by {channel}"


def _opened(event: TicketOpened) -> str:
    return f"Ticket {event.ticket_id} opened: {event.title}" if event.title else f"Ticket {event.ticket_id} opened"


def _replied(event: TicketReplied) -> str:
    action = "replied" if event.public else "left an internal note"
    return f"{event.author.capitalize()} {action} on ticket {event.ticket_id}"


def _interaction(event: InteractionRecorded) -> str:
    direction = f"{event.direction} " if event.direction else ""
    return f"{direction}{event.kind}".capitalize() + (f": {event.outcome}" if event.outcome else "")


def _customer(event: CustomerUpdated) -> str:
    return f"Customer updated: {', '.join(map(_spaced, sorted(event.given)))}"


TITLES: dict[type[Event], Callable[[Any], str]] = {
    FeedbackSubmitted: _feedback,
    TicketOpened: _opened,
    TicketReplied: _replied,
    TicketStatusChanged: lambda event: f"Ticket {event.ticket_id} is {_spaced(event.status)}",
    InteractionRecorded: _interaction,
    CustomerUpdated: _customer,
    SubscriptionChanged: lambda event: f"Subscription {event.subscription_id} {event.change}",
    UsageReported: lambda event: f"Used {event.feature}: {event.quantity:f} {event.unit}",
    TeamFeedbackSubmitted: lambda event: f"Remark by the {event.team} team",
    EscalationOpened: lambda event: f"Case opened: {_spaced(event.reason)}, priority {event.priority}",
    EscalationAcknowledged: lambda event: f"Case acknowledged by {event.acknowledged_by}",
    EscalationResolved: lambda event: f"Case resolved by {event.resolved_by}",
    SlaWarned: lambda event: f"{_spaced(event.metric).capitalize()} to ticket {event.ticket_id} is due soon",
    SlaBreached: lambda event: f"{_spaced(event.metric).capitalize()} to ticket {event.ticket_id} is overdue",
}
"""By type of event: the function that makes its one-line title. Other types are on no timeline."""
