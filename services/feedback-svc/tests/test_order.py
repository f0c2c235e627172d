"""The same events, consumed in any order and any batches, produce the same rows."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.verify import subject
from touchpoint.db.engine import Sessions
from touchpoint.testing.orders import any_order, moments, numbered, readings, state_after

who = {"customer_id": st.sampled_from(["a", "b"]), "time": moments, "recorded": moments}
happenings = st.one_of(
    st.tuples(st.just("feedback"), st.fixed_dictionaries({**who, "score": st.integers(0, 10)})),
    *(
        st.tuples(st.just(kind), st.fixed_dictionaries(who))
        for kind in ("customer_updated", "ticket_opened", "ticket_replied", "interaction", "subscription_changed")
    ),
)


@any_order
@given(happened=st.lists(happenings, min_size=2, max_size=8), data=st.data())
async def test_feedback_and_timelines_are_the_same_in_any_order(
    sessions: Sessions, happened: list[Any], data: st.DataObject
) -> None:
    events = numbered(happened)
    in_order = await state_after(subject(), sessions, [events])
    assert await state_after(subject(), sessions, data.draw(readings(events))) == in_order
