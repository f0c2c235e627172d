from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid5

import pytest

from escalation_svc.cases.decisions import Decisions
from escalation_svc.clocks.decisions import ClockState, clock_id, ticket_cause
from escalation_svc.clocks.service import Clocks
from escalation_svc.customers.service import Customer, Customers
from escalation_svc.policies.service import Policies
from touchpoint.contracts.escalations import EscalationOpened, SlaBreached, SlaWarned
from touchpoint.contracts.touchpoints import TicketOpened
from touchpoint.testing import factories as make

DUE = 14_400
"""Target in seconds of a ticket of normal priority, by the default policies."""

KEY = [Customer("acme", "customer-1", tier="key")]


def later(seconds: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(seconds=seconds)}


def decide(policies: Policies, *events: Any, customers: Sequence[Customer] = ()) -> Decisions:
    decisions = Decisions(policies, Customers(customers), Clocks(policies.first_response))
    for event in events:
        decisions.take(event)
    return decisions


def passing(decisions: Decisions, seconds: float) -> Decisions:
    """The timer handles the only clock, once all events before this moment have been consumed."""
    (clock,) = decisions.clocks.by_id.values()
    decisions.pass_time(clock, make.NOON + timedelta(seconds=seconds))
    return decisions


def outgoing(decisions: Decisions) -> list[str]:
    return [event.type for event in decisions.outgoing]


def test_an_opened_case_describes_its_cause(policies: Policies) -> None:
    event = make.feedback(score=3, id="f-1")
    (case,) = decide(policies, event, customers=KEY).outgoing
    assert isinstance(case, EscalationOpened)
    assert case.model_dump(mode="json", exclude_none=True) == {
        "escalation_id": str(uuid5(event.meta.identity, "key-account-detractor")),
        "case_version": 1,
        "customer_id": "customer-1",
        "reason": "detractor",
        "policy": "key-account-detractor",
        "priority": "high",
        "state": "open",
        "feedback_id": str(event.meta.identity),
        "opened_at": "2026-11-20T12:00:00Z",
    }


def test_a_ticket_opened_twice_has_one_case_whose_id_derives_from_the_ticket(policies: Policies) -> None:
    (case,) = decide(
        policies, make.ticket_opened(priority="urgent"), make.ticket_opened(priority="urgent", **later(5))
    ).outgoing
    assert isinstance(case, EscalationOpened)
    assert case.escalation_id == uuid5(ticket_cause("acme", "ticket-1"), "urgent-ticket")
    assert (case.ticket_id, case.feedback_id, case.opened_at) == ("ticket-1", None, make.NOON)


def test_feedback_is_judged_by_the_customer_as_known_at_that_point_of_the_log(policies: Policies) -> None:
    decisions = decide(
        policies,
        make.feedback(score=1, id="before"),
        make.customer_updated(tier="key"),
        make.feedback(score=1, id="while"),
        make.customer_updated(tier=None, **later(1)),
        make.feedback(score=1, id="after"),
    )
    (case,) = decisions.outgoing
    assert isinstance(case, EscalationOpened)
    assert case.feedback_id == make.feedback(id="while").meta.identity


def test_an_update_changes_only_the_fields_it_gives(policies: Policies) -> None:
    first = make.customer_updated(tier="key", region="EMEA", segment="enterprise")
    decisions = decide(policies, first, make.customer_updated(region=None, segment="mid-market", **later(1)))
    (customer,) = decisions.customers.updated.values()
    assert (customer.tier, customer.region, customer.segment) == ("key", None, "mid-market")


def test_anonymous_feedback_opens_no_case_for_a_key_account(policies: Policies) -> None:
    assert outgoing(decide(policies, make.feedback(score=0, customer_id=None), customers=KEY)) == []


@pytest.mark.parametrize(
    "reply",
    [
        {"author": "bot"},
        {"author": "customer"},
        {"author": "agent", "public": False},
    ],
)
def test_only_a_public_reply_of_an_agent_is_a_response(policies: Policies, reply: dict[str, Any]) -> None:
    decisions = decide(policies, make.ticket_opened(), make.ticket_replied(**reply, **later(60)))
    (clock,) = decisions.clocks.by_id.values()
    assert clock.state is ClockState.ACTIVE


@pytest.mark.parametrize(
    ("status", "state"),
    [("resolved", "cancelled"), ("closed", "cancelled"), ("pending", "active"), ("on_hold", "active")],
)
def test_only_resolving_or_closing_a_ticket_cancels_its_clock(policies: Policies, status: str, state: str) -> None:
    decisions = decide(policies, make.ticket_opened(), make.ticket_status_changed(status=status, **later(60)))
    (clock,) = decisions.clocks.by_id.values()
    assert clock.state == state


@pytest.mark.parametrize(("priority", "target"), [("urgent", 900), ("high", 3600), ("normal", 14400), ("low", 86400)])
def test_the_priority_sets_the_target(policies: Policies, priority: str, target: int) -> None:
    (clock,) = decide(policies, make.ticket_opened(priority=priority)).clocks.by_id.values()
    assert clock.target_seconds == target


def test_an_unknown_priority_of_a_newer_version_is_timed_as_normal(policies: Policies) -> None:
    data = b'{"ticket_id": "ticket-1", "customer_id": "customer-1", "channel": "email", "priority": "blazing"}'
    event = TicketOpened.read_tolerantly(data).with_meta(make.ticket_opened().meta)
    decisions = passing(decide(policies, event), DUE + 1)
    assert outgoing(decisions) == ["sla.breached", "escalation.opened"]
    (clock,) = decisions.clocks.by_id.values()
    assert (clock.priority, clock.target_seconds) == ("normal", 14400)


def test_a_clock_that_runs_out_is_a_breach_and_opens_its_case(policies: Policies) -> None:
    opened = make.ticket_opened(id="t-1")
    breached, case = passing(decide(policies, opened), DUE + 1).outgoing
    assert isinstance(breached, SlaBreached)
    assert breached.model_dump(mode="json") == {
        "clock_id": str(clock_id("acme", "ticket-1")),
        "clock_version": 2,
        "metric": "first_response",
        "ticket_id": "ticket-1",
        "customer_id": "customer-1",
        "priority": "normal",
        "target_seconds": DUE,
        "started_at": "2026-11-20T12:00:00Z",
        "due_at": "2026-11-20T16:00:00Z",
    }
    assert breached.meta.id == str(uuid5(opened.meta.identity, "sla.breached"))
    assert isinstance(case, EscalationOpened)
    assert (case.reason, case.ticket_id, case.opened_at) == ("first_response_breached", "ticket-1", breached.due_at)


def test_a_reply_dated_too_late_leaves_the_breach_to_the_timer(policies: Policies) -> None:
    decisions = decide(policies, make.ticket_opened(id="t-1"), make.ticket_replied(**later(DUE + 1)))
    (clock,) = decisions.clocks.by_id.values()
    assert (outgoing(decisions), clock.state) == ([], "active")
    passing(decisions, DUE + 0.5)
    assert (outgoing(decisions), clock.state) == (["sla.breached", "escalation.opened"], "breached")


def test_an_imported_clock_is_achieved_whichever_reply_is_read_first(policies: Policies) -> None:
    decisions = decide(policies, make.ticket_opened(backfill=True), make.ticket_replied(**later(DUE + 1)))
    decisions.take(make.ticket_replied(**later(60)))
    (clock,) = decisions.clocks.by_id.values()
    assert (outgoing(decisions), clock.state) == (["sla.breached"], "achieved")


def test_a_warning_is_dated_when_it_was_due_and_opens_no_case(policies: Policies) -> None:
    decisions = decide(policies, make.ticket_opened())
    (clock,) = decisions.clocks.by_id.values()
    decisions.pass_time(clock, make.NOON + timedelta(seconds=DUE * 0.8 + 1))
    (warned,) = decisions.outgoing
    assert isinstance(warned, SlaWarned)
    assert warned.meta.time == make.NOON + timedelta(seconds=DUE * 0.8)


def test_a_clock_started_again_warns_again_under_another_id(policies: Policies) -> None:
    decisions = decide(policies, make.ticket_opened())
    (clock,) = decisions.clocks.by_id.values()
    decisions.pass_time(clock, make.NOON + timedelta(seconds=DUE * 0.8 + 1))
    decisions.take(make.ticket_status_changed(status="closed", **later(DUE * 0.9)))
    decisions.take(make.ticket_status_changed(status="open", **later(DUE * 3)))
    decisions.pass_time(clock, make.NOON + timedelta(seconds=DUE * 3.9))
    first, second = decisions.outgoing
    assert first.meta.identity != second.meta.identity


def test_imported_events_open_no_case_and_their_breach_is_marked_as_backfill(policies: Policies) -> None:
    decisions = decide(
        policies,
        make.feedback(score=0, backfill=True),
        make.ticket_opened(priority="urgent", backfill=True),
        make.ticket_replied(backfill=True, **later(DUE)),
        customers=KEY,
    )
    (breached,) = decisions.outgoing
    assert isinstance(breached, SlaBreached)
    assert breached.meta.backfill
    assert not decisions.clocks.settled


def test_a_live_reply_to_an_imported_ticket_opens_no_case(policies: Policies) -> None:
    decisions = decide(policies, make.ticket_opened(backfill=True), make.ticket_replied(**later(DUE + 1)))
    assert outgoing(decisions) == ["sla.breached"]


def test_an_imported_reply_to_a_live_ticket_counts_by_its_time(policies: Policies) -> None:
    late = passing(
        decide(policies, make.ticket_opened(), make.ticket_replied(backfill=True, **later(DUE + 1))), DUE + 1
    )
    assert outgoing(late) == ["sla.breached", "escalation.opened"]
    assert not late.outgoing[0].meta.backfill


def test_the_same_ids_of_two_tenants_are_kept_apart(policies: Policies) -> None:
    decisions = decide(
        policies,
        make.ticket_opened(),
        make.ticket_replied(tenant="other"),
        make.feedback(tenant="other", score=0),
        customers=KEY,
    )
    assert sorted(clock.state for clock in decisions.clocks.by_id.values()) == ["active", "waiting"]
    assert decisions.outgoing == []


def test_ended_live_clocks_are_counted_by_state(policies: Policies) -> None:
    tickets = [make.ticket_opened(ticket_id=f"t-{n}") for n in range(4)]
    decisions = decide(
        policies,
        *tickets,
        make.ticket_replied(ticket_id="t-0", **later(1)),
        make.ticket_replied(ticket_id="t-1", **later(DUE + 1)),
        make.ticket_status_changed(ticket_id="t-2", **later(1)),
    )
    for clock in decisions.clocks.by_id.values():
        decisions.pass_time(clock, make.NOON + timedelta(seconds=DUE + 1))
    assert decisions.clocks.settled == {ClockState.ACHIEVED: 1, ClockState.BREACHED: 2, ClockState.CANCELLED: 1}
