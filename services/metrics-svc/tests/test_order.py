"""The same events, consumed in any order and any batches, produce the same rows."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from metrics_svc.verify import subject
from touchpoint.contracts.base import Event
from touchpoint.db.engine import Sessions
from touchpoint.testing import factories as make
from touchpoint.testing.orders import any_order, deliver, moments, numbered, readings, state_after

who = {"customer_id": st.sampled_from(["a", "a", "b"])}
tickets = {**who, "ticket_id": st.sampled_from(["t-1", "t-1", "t-2"])}
values = st.sampled_from([None, "smb", "enterprise"])
happenings = st.one_of(
    st.tuples(
        st.just("customer_updated"),
        st.fixed_dictionaries(
            {**who, "time": moments, "recorded": moments}, optional={"segment": values, "tier": values}
        ),
    ),
    st.tuples(st.just("feedback"), st.fixed_dictionaries({**who, "time": moments, "score": st.integers(0, 10)})),
    st.tuples(
        st.just("ticket_opened"),
        st.fixed_dictionaries({**tickets, "time": moments, "channel": st.sampled_from(["email", "chat"])}),
    ),
    st.tuples(st.just("ticket_replied"), st.fixed_dictionaries({**tickets, "time": moments})),
    st.tuples(
        st.just("ticket_status_changed"),
        st.fixed_dictionaries({**tickets, "time": moments, "status": st.sampled_from(["resolved", "closed", "open"])}),
    ),
)


@any_order
@given(happened=st.lists(happenings, min_size=2, max_size=12), data=st.data())
async def test_measurements_and_facts_of_customers_are_the_same_in_any_order(
    sessions: Sessions, happened: list[Any], data: st.DataObject
) -> None:
    events = numbered(happened)
    in_order = await state_after(subject(), sessions, [events])
    assert await state_after(subject(), sessions, data.draw(readings(events))) == in_order


def later(seconds: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(seconds=seconds)}


OPENED = make.ticket_opened()
REPLIED = [make.ticket_replied(**later(-2 * 86_400)), make.ticket_replied(**later(60))]
"""A reply two days older than the ticket, which was split from an older one, and a reply after the opening."""


@pytest.mark.parametrize("events", [[*REPLIED, OPENED], [OPENED, *REPLIED], [REPLIED[1], OPENED, REPLIED[0]]])
async def test_a_reply_from_before_the_ticket_does_not_hide_a_later_one(
    sessions: Sessions, events: list[Event]
) -> None:
    for event in events:
        await deliver(subject().handlers, sessions, [event])
    async with sessions() as session:
        rows = await session.execute(text("SELECT sum(n), sum(total) FROM rollups WHERE metric = 'first-response'"))
        assert tuple(rows.one()) == (1, 60_000_000)


async def test_a_change_of_segment_consumed_late_moves_earlier_counts(sessions: Sessions) -> None:
    events = [
        make.customer_updated(segment="smb"),
        make.feedback(score=9, **later(60)),
        make.ticket_opened(**later(60)),
        make.ticket_replied(**later(90)),
        make.customer_updated(segment="enterprise", **later(30)),
    ]
    for event in events:
        await deliver(subject().handlers, sessions, [event])
    async with sessions() as session:
        rows = await session.execute(text("SELECT metric, segment, sum(n) FROM rollups GROUP BY 1, 2 ORDER BY 1, 2"))
        assert [tuple(row) for row in rows] == [
            ("first-response", "enterprise", 1),
            ("first-response", "smb", 0),
            ("nps", "enterprise", 1),
            ("nps", "smb", 0),
        ]
