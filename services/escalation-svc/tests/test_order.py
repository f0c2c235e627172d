"""The same events, consumed in any order and any batches, produce the same rows."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from escalation_svc.cases import service
from escalation_svc.verify import subject
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import decode
from touchpoint.contracts.topics import ESCALATIONS
from touchpoint.db import outbox
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.testing import factories as make
from touchpoint.testing.orders import LATELY, any_order, deliver, moments, numbered, readings, state_after

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
TimePasses = Callable[[], Awaitable[None]]

tickets = {"customer_id": st.sampled_from(["a", "a", "b"]), "ticket_id": st.sampled_from(["t-1", "t-1", "t-2"])}
happenings = st.one_of(
    st.tuples(
        st.just("ticket_opened"),
        st.fixed_dictionaries(
            {**tickets, "time": moments, "priority": st.sampled_from(["urgent", "normal"])},
            optional={"backfill": st.just(True)},
        ),
    ),
    st.tuples(st.just("ticket_replied"), st.fixed_dictionaries({**tickets, "time": moments})),
    st.tuples(
        st.just("ticket_status_changed"),
        st.fixed_dictionaries({**tickets, "time": moments, "status": st.sampled_from(["resolved", "closed", "open"])}),
    ),
)
changes = st.tuples(
    st.just("customer_updated"),
    st.fixed_dictionaries(
        {"customer_id": st.just("a"), "time": moments, "recorded": moments},
        optional={"tier": st.sampled_from(["key", "basic", None]), "region": st.sampled_from(["EMEA", None])},
    ),
)


async def clocks(rows: Rows) -> list[dict[str, Any]]:
    """All columns except `version`, which counts how often a row was written."""
    return [{**row, "version": None} for row in await rows("clocks ORDER BY tenant_id, clock_id")]


@any_order
@given(happened=st.lists(happenings, min_size=2, max_size=9), data=st.data())
async def test_clocks_are_the_same_in_any_order_before_and_after_the_timer(
    sessions: Sessions, time_passes: TimePasses, rows: Rows, happened: list[Any], data: st.DataObject
) -> None:
    events = numbered(happened)
    results = []
    for reading in ([events], data.draw(readings(events))):
        read = await state_after(subject(), sessions, reading)
        before = await clocks(rows)
        await time_passes()
        results.append((read["clocks"], before, await clocks(rows)))
    assert results[0] == results[1]


DECIDED = (
    "tenant_id, ticket_id, customer_id, state, priority, target_seconds, due_at, warned, fulfilled_at, closed_at, fired"
)
"""The columns of a clock that follow from its ticket's events and from what the timer has published."""


@any_order
@given(happened=st.lists(happenings, min_size=2, max_size=9), data=st.data())
async def test_decisions_that_are_read_back_end_in_the_same_cases_and_clocks_in_any_order(
    sessions: Sessions, time_passes: TimePasses, happened: list[Any], data: st.DataObject
) -> None:
    events = numbered(happened)
    cut = data.draw(st.integers(0, len(events)))
    await state_after(subject(), sessions, [events[:cut]])
    await time_passes()
    await people_act(sessions, data)
    if cut < len(events):
        await deliver(subject().handlers, sessions, events[cut:])
    undisturbed = await decided(sessions)
    own = await published(sessions)

    await state_after(subject(), sessions, data.draw(readings([*events, *own])))
    assert await decided(sessions) == undisturbed


async def people_act(sessions: Sessions, data: st.DataObject) -> None:
    """Acknowledge some cases, resolve some."""
    async with transaction(sessions) as session:
        cases = [tuple(row) for row in await session.execute(text("SELECT tenant_id, escalation_id FROM escalations"))]
        for tenant, case in sorted(cases):
            if data.draw(st.booleans()):
                await service.acknowledge(session, tenant, case, "ann")
            if data.draw(st.booleans()):
                await service.resolve(session, tenant, case, "bob", "Called back.")


async def decided(sessions: Sessions) -> dict[str, list[str]]:
    """Cases, and what clocks have been decided to be."""
    queries = {"escalations": "SELECT * FROM escalations", "clocks": f"SELECT {DECIDED} FROM clocks"}
    async with transaction(sessions) as session:
        return {
            name: sorted(str(tuple(row)) for row in await session.execute(text(query)))
            for name, query in queries.items()
        }


async def published(sessions: Sessions) -> list[Event]:
    """The events that the service has published."""
    async with transaction(sessions) as session:
        records = await outbox.waiting(await raw_connection(session), [ESCALATIONS])
    events = [decode(record, subject().handlers.events) for record in records]
    return [event for event in events if event is not None]


@any_order
@given(happened=st.lists(changes, min_size=2, max_size=6), data=st.data())
async def test_a_customers_attributes_are_the_same_in_any_order(
    sessions: Sessions, happened: list[Any], data: st.DataObject
) -> None:
    events = numbered(happened)
    in_order = await state_after(subject(), sessions, [events])
    assert await state_after(subject(), sessions, data.draw(readings(events))) == in_order


def later(seconds: float) -> dict[str, Any]:
    return {"time": LATELY + timedelta(seconds=seconds)}


URGENT = make.ticket_opened(priority="urgent", topic="touchpoints.v1", partition=0, **later(0))
ANSWERED = [make.ticket_replied(**later(-86_400)), make.ticket_replied(**later(60))]
"""A reply of the day before, as when a ticket is split from an older one, and a reply in time."""


@pytest.mark.parametrize("events", [[*ANSWERED, URGENT], [URGENT, *ANSWERED], [ANSWERED[0], URGENT, ANSWERED[1]]])
async def test_a_ticket_answered_in_time_is_achieved_despite_a_reply_from_the_day_before(
    sessions: Sessions, time_passes: TimePasses, rows: Rows, events: list[Event]
) -> None:
    for event in events:
        await deliver(subject().handlers, sessions, [event])
    await time_passes()
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["fulfilled_at"]) == ("achieved", LATELY + timedelta(seconds=60))
    assert [case["reason"] for case in await rows("escalations")] == ["urgent_ticket"]


@pytest.mark.parametrize("first", ["opened", "closed"])
async def test_a_closing_half_a_second_before_the_opening_cancels_the_clock(
    sessions: Sessions, rows: Rows, first: str
) -> None:
    closed = make.ticket_status_changed(status="closed", **later(-0.5))
    await deliver(subject().handlers, sessions, [URGENT, closed] if first == "opened" else [closed, URGENT])
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["wake_at"]) == ("cancelled", None)
