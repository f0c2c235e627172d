import json
from datetime import timedelta
from decimal import Decimal

import pytest

from feedback_svc.timeline import service
from touchpoint.contracts import topics
from touchpoint.contracts.base import REGISTRY, Event
from touchpoint.contracts.escalations import EscalationAcknowledged, EscalationResolved, SlaWarned
from touchpoint.testing import factories as make

CASE = make.escalation_opened().model_dump()
CLOCK = make.sla_breached().model_dump()


@pytest.mark.parametrize(
    ("event", "title"),
    [
        (make.feedback(score=3), "NPS 3 on 0–10 by email"),
        (make.feedback(kind="csat", score=4, channel="chat"), "CSAT 4 on 1–5 by chat"),
        (make.feedback(kind="rating", score={"value": 2.5, "min": 0, "max": 5}), "Rating 2.5 on 0–5 by email"),
        (make.feedback(kind="review", score=None, channel="app"), "Review by app"),
        (make.ticket_opened(), "Ticket ticket-1 opened: It does not start"),
        (make.ticket_opened(title=None), "Ticket ticket-1 opened"),
        (make.ticket_opened(title="Two\n  lines"), "Ticket ticket-1 opened: Two lines"),
        (make.ticket_replied(), "Agent replied on ticket ticket-1"),
        (make.ticket_replied(author="customer"), "Customer replied on ticket ticket-1"),
        (make.ticket_replied(public=False), "Agent left an internal note on ticket ticket-1"),
        (make.ticket_status_changed(status="on_hold"), "Ticket ticket-1 is on hold"),
        (make.interaction(), "Inbound call"),
        (make.interaction(kind="purchase", direction=None, outcome="paid"), "Purchase: paid"),
        (make.customer_updated(tier="key"), "Customer updated: name, tier"),
        (make.customer_updated(lifecycle_stage=None), "Customer updated: lifecycle stage, name"),
        (make.subscription_changed(), "Subscription subscription-1 started"),
        (make.usage_reported(quantity=Decimal("1E+3")), "Used exports: 1000 files"),
        (make.team_feedback(), "Remark by the support team"),
        (make.escalation_opened(), "Case opened: detractor, priority high"),
        (make.make(EscalationAcknowledged, CASE, {"acknowledged_by": "Maria"}), "Case acknowledged by Maria"),
        (make.make(EscalationResolved, CASE, {"resolved_by": "Maria"}), "Case resolved by Maria"),
        (make.make(SlaWarned, CLOCK, {}), "First response to ticket ticket-1 is due soon"),
        (make.sla_breached(), "First response to ticket ticket-1 is overdue"),
    ],
)
def test_each_type_of_event_has_a_title_of_one_line(event: Event, title: str) -> None:
    entry = service.timeline_entry(event)
    assert entry is not None
    assert entry.title == title


def test_every_event_about_a_customer_has_a_title() -> None:
    about_customers = {event for event in REGISTRY.values() if event.topic in (topics.TOUCHPOINTS, topics.ESCALATIONS)}
    assert set(service.TITLES) == about_customers


def test_an_entry_has_the_time_and_the_identity_of_its_event() -> None:
    event = make.ticket_opened(time=make.NOON - timedelta(days=3), recorded=make.NOON)
    entry = service.timeline_entry(event)
    assert entry is not None
    assert entry[:5] == ("acme", "customer-1", make.NOON - timedelta(days=3), event.meta.identity, "ticket.opened")


@pytest.mark.parametrize("event", [make.feedback(customer_id=None), make.team_feedback(customer_id=None)])
def test_an_event_without_a_customer_has_no_timeline_entry(event: Event) -> None:
    assert service.timeline_entry(event) is None


def test_details_are_the_data_of_the_event() -> None:
    event = make.ticket_opened(tags=["a", "b"])
    assert json.loads(service.details(event)) == json.loads(event.data())


def test_a_cleared_field_is_null_in_the_details() -> None:
    assert json.loads(service.details(make.customer_updated(tier=None)))["tier"] is None


def test_long_texts_in_details_are_cut_and_the_rest_is_kept() -> None:
    details = json.loads(service.details(make.ticket_opened(text="x" * 50_000, tags=["a"])))
    assert details["text"] == "x" * (service.TEXT_LENGTH - 1) + "…"
    assert (details["title"], details["tags"]) == ("It does not start", ["a"])


def test_a_long_title_is_cut() -> None:
    entry = service.timeline_entry(make.ticket_opened(title="t" * 200))
    assert entry is not None
    assert len(entry.title) == service.TITLE_LENGTH
    assert entry.title.endswith("t…")


def test_an_unknown_kind_of_a_newer_gateway_has_a_title() -> None:
    event = make.feedback(text="x").model_copy(update={"kind": "emoji", "channel": "watch", "score": None})
    entry = service.timeline_entry(event)
    assert entry is not None
    assert entry.title == "Emoji by watch"
