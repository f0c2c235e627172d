from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from escalation_svc.cases import service
from escalation_svc.cases.handlers import with_policies
from escalation_svc.clocks.decisions import clock_id
from escalation_svc.policies.service import Policies
from escalation_svc.verify import subject
from touchpoint.db.engine import Sessions, transaction
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.testing import apply
from touchpoint.testing import factories as make
from touchpoint.testing.orders import any_order, state_after
from touchpoint.testing.policies import policy

DUE = 14_400

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
Published = Callable[[], Awaitable[list[dict[str, Any]]]]


def later(seconds: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(seconds=seconds)}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_a_customers_attributes_are_kept_across_batches(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    first, second, third = (
        make.customer_updated(**facts, **later(number))
        for number, facts in enumerate(
            (
                {"tier": "key", "annual_recurring_revenue": "48000.50", "currency": "EUR", "region": "EMEA"},
                {"region": None},
                {"segment": "enterprise"},
            )
        )
    )
    await apply(handlers, sessions, [first])
    await apply(handlers, sessions, [second, third])
    (row,) = await rows("customers")
    from_events = {name: identity for name, (_, _, identity) in row.pop("latest").items()}
    assert from_events == {
        "tier": str(first.meta.identity), "annual_recurring_revenue": str(first.meta.identity),
        "currency": str(first.meta.identity), "region": str(second.meta.identity), "segment": str(third.meta.identity),
    }  # fmt: skip
    assert row == {
        "tenant_id": "acme", "customer_id": "customer-1", "account_id": None, "tier": "key",
        "segment": "enterprise", "owner": None, "region": None, "lifecycle_stage": None,
        "annual_recurring_revenue": Decimal("48000.50"), "currency": "EUR",
    }  # fmt: skip


async def test_an_older_change_consumed_later_does_not_overwrite_newer_values(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    newer = make.customer_updated(tier="standard", **later(1))
    redriven = make.customer_updated(tier="key", region="EMEA")
    await apply(handlers, sessions, [newer])
    await apply(handlers, sessions, [redriven])
    (row,) = await rows("customers")
    assert (row["tier"], row["region"]) == ("standard", "EMEA")


async def test_a_detractor_of_a_key_account_opens_a_case_and_publishes_an_event(
    handlers: Handlers, sessions: Sessions, rows: Rows, published: Published
) -> None:
    await apply(handlers, sessions, [make.customer_updated(tier="key")])
    event = make.feedback(score=2)
    await apply(handlers, sessions, [event])
    (case,) = await rows("escalations")
    assert (case["reason"], case["state"], case["feedback_id"]) == ("detractor", "open", event.meta.identity)
    (opened,) = await published()
    assert opened["type"] == "escalation.opened"
    assert opened["escalation_id"] == str(case["escalation_id"])
    assert opened["key"] == "acme:customer-1"


async def test_events_of_different_types_in_a_batch_are_handled_in_log_order(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    await apply(
        handlers,
        sessions,
        [
            make.feedback(score=0, customer_id="a"),
            make.customer_updated(tier="key", customer_id="a"),
            make.feedback(score=1, customer_id="a"),
            make.customer_updated(tier="standard", customer_id="a", **later(1)),
            make.feedback(score=2, customer_id="a"),
        ],
    )
    assert len(await rows("escalations")) == 1


async def test_all_events_of_a_case_without_a_customer_have_the_same_key(
    sessions: Sessions, policies: Policies, published: Published
) -> None:
    anybody = policies.model_dump(mode="json")
    anybody["policies"] = [policy("all", reason="low_rating", priority="low")]
    await apply(with_policies(Policies.model_validate(anybody)), sessions, [make.feedback(customer_id=None)])
    (opened,) = await published()
    async with transaction(sessions) as session:
        await service.acknowledge(session, "acme", UUID(opened["escalation_id"]), "ana")
    assert len({event["key"] for event in await published()}) == 1


async def test_an_open_case_is_neither_changed_nor_published_again_for_the_same_cause(
    handlers: Handlers, sessions: Sessions, rows: Rows, published: Published
) -> None:
    await apply(handlers, sessions, [make.ticket_opened(priority="urgent"), make.ticket_opened(priority="urgent")])
    (before,) = await rows("escalations")
    await apply(handlers, sessions, [make.ticket_opened(priority="urgent", **later(60))])
    assert await rows("escalations") == [before]
    assert [event["type"] for event in await published()] == ["escalation.opened"]


async def test_a_clock_is_stored_between_batches(handlers: Handlers, sessions: Sessions, rows: Rows) -> None:
    opened = make.ticket_opened(topic="touchpoints.v1", partition=2, offset=7, traceparent="00-abc")
    await apply(handlers, sessions, [opened])
    (clock,) = await rows("clocks")
    assert (clock["clock_id"], clock["state"], clock["version"]) == (clock_id("acme", "ticket-1"), "active", 1)
    assert (clock["topic"], clock["partition"]) == ("touchpoints.v1", 2)
    assert clock["wake_at"] == clock["warn_at"] == make.NOON + timedelta(seconds=DUE * 0.8)
    await apply(handlers, sessions, [make.ticket_replied(**later(60))])
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["version"], clock["wake_at"]) == ("achieved", 2, None)
    assert clock["fulfilled_at"] == make.NOON + timedelta(seconds=60)


async def test_a_breach_of_an_imported_ticket_has_the_customer_and_due_time_of_the_ticket(
    handlers: Handlers, sessions: Sessions, rows: Rows, published: Published
) -> None:
    opened = make.ticket_opened(traceparent="00-abc", backfill=True)
    await apply(handlers, sessions, [opened])
    await apply(handlers, sessions, [make.ticket_replied(customer_id="customer-2", **later(DUE + 1))])
    (breached,) = await published()
    assert (breached["type"], breached["clock_version"], breached["backfill"]) == ("sla.breached", 2, True)
    assert (breached["time"], breached["customer_id"]) == ("2026-11-20T16:00:00Z", "customer-1")
    assert await rows("escalations") == []


async def test_a_reply_consumed_before_its_ticket_is_kept_for_later_batches(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    await apply(handlers, sessions, [make.ticket_replied(customer_id="customer-2", **later(60))])
    await apply(handlers, sessions, [make.ticket_opened(priority="high")])
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["version"]) == ("achieved", 2)
    assert (clock["customer_id"], clock["priority"], clock["target_seconds"]) == ("customer-1", "high", 3600)


async def test_reopening_a_closed_ticket_in_a_later_batch_restarts_its_clock(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    await apply(handlers, sessions, [make.ticket_opened()])
    await apply(handlers, sessions, [make.ticket_status_changed(status="resolved", **later(60))])
    await apply(handlers, sessions, [make.ticket_status_changed(status="open", **later(90))])
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["version"]) == ("active", 3)
    assert clock["due_at"] == make.NOON + timedelta(seconds=90 + DUE)


async def test_events_that_move_no_clock_store_none(handlers: Handlers, sessions: Sessions, rows: Rows) -> None:
    await apply(
        handlers,
        sessions,
        [
            make.ticket_replied(author="customer"),
            make.ticket_replied(author="bot"),
            make.ticket_replied(public=False),
            make.ticket_status_changed(status="pending"),
            make.ticket_status_changed(status="on_hold"),
        ],
    )
    assert await rows("clocks") == []


async def test_imported_history_opens_no_case(
    handlers: Handlers, sessions: Sessions, rows: Rows, published: Published
) -> None:
    await apply(
        handlers,
        sessions,
        [
            make.customer_updated(tier="key", backfill=True),
            make.feedback(score=0, backfill=True),
            make.ticket_opened(priority="urgent", backfill=True),
            make.ticket_replied(backfill=True, **later(DUE)),
        ],
    )
    assert await rows("escalations") == []
    assert [(event["type"], event["backfill"]) for event in await published()] == [("sla.breached", True)]
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["wake_at"]) == ("breached", None)


def busy(first: int, customers: int) -> list[Any]:
    """Five events for each of that number of customers, from number `first` on."""
    events: list[Any] = []
    for n in range(first, first + customers):
        who = {"customer_id": f"customer-{n}"}
        events += [
            make.customer_updated(tier="key", **who),
            make.feedback(score=n % 11, **who),
            make.ticket_opened(ticket_id=f"t-{n}", priority="urgent" if n % 2 else "low", **who),
            make.ticket_replied(ticket_id=f"t-{n}", **who, **later(60)),
            make.ticket_status_changed(ticket_id=f"t-{n}", **who, **later(90)),
        ]
    return events


async def test_two_thousand_events_take_no_more_statements_than_five(
    handlers: Handlers, sessions: Sessions, rows: Rows, statements: list[str]
) -> None:
    await apply(handlers, sessions, busy(0, 1))
    statements.clear()
    await apply(handlers, sessions, busy(1, 1))
    few = len(statements)
    statements.clear()
    await apply(handlers, sessions, busy(2, 398))
    assert len(statements) <= few
    assert len(await rows("clocks WHERE state = 'achieved'")) == 400
    assert len(await rows("customers")) == 400
    assert len(await rows("escalations WHERE reason = 'urgent_ticket'")) == 200
    assert len(await rows("escalations WHERE reason = 'detractor'")) == sum(n % 11 <= 6 for n in range(400))


steps = st.integers(-600, DUE // 2)
"""Seconds from one event to the next: mostly forward."""
customers = st.sampled_from([{"customer_id": "a"}, {"customer_id": "b"}])
tickets = st.sampled_from([{"ticket_id": n, "customer_id": "a"} for n in ("t-1", "t-2")])
happenings = st.one_of(
    st.tuples(st.just(make.customer_updated), steps, customers,
              st.sampled_from([{"tier": "key"}, {"tier": None}, {"region": "EMEA"}])),
    st.tuples(st.just(make.feedback), steps, customers, st.sampled_from([{"score": n} for n in (0, 6, 7)])),
    st.tuples(st.just(make.ticket_opened), steps, tickets,
              st.sampled_from([{"priority": "urgent"}, {"priority": "normal"}])),
    st.tuples(st.just(make.ticket_replied), steps, tickets, st.just({})),
    st.tuples(st.just(make.ticket_status_changed), steps, tickets,
              st.sampled_from([{"status": "resolved"}, {"status": "open"}])),
)  # fmt: skip


def as_events(happened: list[Any]) -> list[Any]:
    moments = accumulate((seconds for _, seconds, _, _ in happened), initial=0)
    return [
        of(id=str(n), **later(moment), **who, **what)
        for n, ((of, _, who, what), moment) in enumerate(zip(happened, moments, strict=False))
    ]


@any_order
@given(happened=st.lists(happenings, min_size=2, max_size=14), cuts=st.sets(st.integers(1, 13)))
async def test_how_the_log_is_divided_into_batches_does_not_change_the_rows(
    sessions: Sessions, rows: Rows, happened: list[Any], cuts: set[int]
) -> None:
    events = as_events(happened)
    ends = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    results = []
    for reading in ([events], [events[start:end] for start, end in pairwise(ends)]):
        results.append((await state_after(subject(), sessions, reading), await rows("clocks ORDER BY clock_id")))
    assert results[0] == results[1]


async def test_metrics_count_cases_and_clocks_once_they_are_committed(handlers: Handlers, sessions: Sessions) -> None:
    opened = ("touchpoint_escalation_cases_opened_total", {"reason": "urgent_ticket"})
    settled = ("touchpoint_escalation_clocks_settled_total", {"outcome": "achieved"})
    before = counted(opened[0], **opened[1]), counted(settled[0], **settled[1])
    events = [make.ticket_opened(priority="urgent"), make.ticket_replied()]

    async with sessions() as session:
        await handlers.handle([handlers.prepare(event) for event in events], Context(session))
        await session.rollback()
    assert (counted(opened[0], **opened[1]), counted(settled[0], **settled[1])) == before

    await apply(handlers, sessions, events)
    await apply(handlers, sessions, events)
    assert (counted(opened[0], **opened[1]), counted(settled[0], **settled[1])) == (before[0] + 1, before[1] + 1)
