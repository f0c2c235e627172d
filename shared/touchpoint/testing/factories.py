"""Valid events for tests, complete with attributes.

Each takes any field of its contract and any attribute of `Meta`, so a test names what matters to it and nothing else:
`feedback(score=3, customer_id="c-9", backfill=True)`.
"""

import json
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from touchpoint.contracts.base import Event, Meta
from touchpoint.contracts.escalations import EscalationOpened, SlaBreached
from touchpoint.contracts.feedback import FeedbackRecorded
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

TENANT = "acme"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
"""The default time of all events."""

SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7), "rating": (1, 5)}

_ATTRIBUTES = set(Meta.__struct_fields__)
_E = TypeVar("_E", bound=Event)


def make(kind: type[_E], defaults: dict[str, Any], over: dict[str, Any]) -> _E:
    """An event of `kind`; each name in `over` overrides a field of its data or one of its attributes."""
    given = {name: value for name, value in over.items() if name in _ATTRIBUTES}
    time = given.get("time", NOON)
    meta = {"id": str(uuid4()), "source": "/tests", "tenant": TENANT, "time": time, "recorded": time} | given
    data = defaults | {name: value for name, value in over.items() if name not in _ATTRIBUTES}
    return kind.model_validate(data).with_meta(Meta(**meta))


def example(kind: type[_E], **over: Any) -> _E:
    """The example in the contract's documentation."""
    documented: Any = kind.model_config["json_schema_extra"]
    data = kind.model_validate_json(json.dumps(documented["examples"][0]))
    return make(kind, data.model_dump(exclude_unset=True), over)


def _scored(defaults: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Give a score that is a bare number the customary scale of its kind."""
    score = over.get("score")
    if isinstance(score, int | float):
        low, high = SCALES.get(over.get("kind", defaults["kind"]), (1, 5))
        return over | {"score": {"value": score, "min": low, "max": high}}
    return over


def feedback(**over: Any) -> FeedbackSubmitted:
    """An NPS answer of 9; `score` may be a bare number."""
    defaults = {
        "kind": "nps",
        "channel": "email",
        "customer_id": "customer-1",
        "score": {"value": 9, "min": 0, "max": 10},
        "text": "Quick and friendly.",
    }
    return make(FeedbackSubmitted, defaults, _scored(defaults, over))


def feedback_recorded(**over: Any) -> FeedbackRecorded:
    """The same answer, as feedback-svc publishes it."""
    defaults = {
        "feedback_id": uuid4(),
        "kind": "nps",
        "channel": "email",
        "customer_id": "customer-1",
        "score": {"value": 9, "min": 0, "max": 10},
        "text": "Quick and friendly.",
    }
    return make(FeedbackRecorded, defaults, _scored(defaults, over))


def ticket_opened(**over: Any) -> TicketOpened:
    """A ticket of normal priority."""
    defaults = {
        "ticket_id": "ticket-1",
        "customer_id": "customer-1",
        "channel": "email",
        "title": "It does not start",
        "text": "Since this morning it does not start.",
    }
    return make(TicketOpened, defaults, over)


def ticket_replied(**over: Any) -> TicketReplied:
    """A public reply of an agent."""
    defaults = {"ticket_id": "ticket-1", "customer_id": "customer-1", "author": "agent", "text": "We look into it."}
    return make(TicketReplied, defaults, over)


def ticket_status_changed(**over: Any) -> TicketStatusChanged:
    """A ticket resolved by an agent."""
    defaults = {"ticket_id": "ticket-1", "customer_id": "customer-1", "status": "resolved", "by": "agent"}
    return make(TicketStatusChanged, defaults, over)


def interaction(**over: Any) -> InteractionRecorded:
    """A call of five minutes."""
    defaults = {
        "customer_id": "customer-1",
        "kind": "call",
        "direction": "inbound",
        "channel": "phone",
        "duration_seconds": 300.0,
    }
    return make(InteractionRecorded, defaults, over)


def customer_updated(**over: Any) -> CustomerUpdated:
    """A customer's name only: other fields stay as they are unless given."""
    return make(CustomerUpdated, {"customer_id": "customer-1", "name": "Nordwind Logistics"}, over)


def subscription_changed(**over: Any) -> SubscriptionChanged:
    """A subscription of 12,000 EUR a year starts."""
    defaults = {
        "subscription_id": "subscription-1",
        "customer_id": "customer-1",
        "change": "started",
        "annual_amount": "12000.00",
        "currency": "EUR",
    }
    return make(SubscriptionChanged, defaults, over)


def usage_reported(**over: Any) -> UsageReported:
    """A week's use of one feature."""
    defaults = {
        "customer_id": "customer-1",
        "feature": "exports",
        "quantity": "128",
        "unit": "files",
        "period_start": datetime(2026, 11, 9, tzinfo=UTC),
        "period_end": datetime(2026, 11, 16, tzinfo=UTC),
    }
    return make(UsageReported, defaults, over)


def team_feedback(**over: Any) -> TeamFeedbackSubmitted:
    """A colleague's remark about a customer."""
    defaults = {"team": "support", "text": "The second one this week.", "customer_id": "customer-1"}
    return make(TeamFeedbackSubmitted, defaults, over)


def escalation_opened(**over: Any) -> EscalationOpened:
    """A case about a detractor."""
    defaults = {
        "escalation_id": uuid4(),
        "case_version": 1,
        "customer_id": "customer-1",
        "reason": "detractor",
        "policy": "detractors",
        "priority": "high",
        "state": "open",
        "opened_at": NOON,
    }
    return make(EscalationOpened, defaults, over)


def sla_breached(**over: Any) -> SlaBreached:
    """A first-response clock of one hour that ran out."""
    defaults = {
        "clock_id": uuid4(),
        "clock_version": 1,
        "metric": "first_response",
        "ticket_id": "ticket-1",
        "customer_id": "customer-1",
        "priority": "normal",
        "target_seconds": 3600,
        "started_at": NOON.replace(hour=11),
        "due_at": NOON,
    }
    return make(SlaBreached, defaults, over)
