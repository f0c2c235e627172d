from collections.abc import Callable
from dataclasses import astuple
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from escalation_svc.clocks import Clock, ClockState
from touchpoint.contracts.base import Meta
from touchpoint.contracts.touchpoints import Priority
from touchpoint.testing import factories as make

TARGET = 100
WARN = 0.8


def at(seconds: float) -> datetime:
    return make.NOON + timedelta(seconds=seconds)


def meta(seconds: float, *, backfill: bool = False) -> Meta:
    return make.ticket_opened(time=at(seconds), backfill=backfill).meta


def waiting() -> Clock:
    return Clock.of_ticket("acme", "ticket-1", "customer-1")


def opened(*, backfill: bool = False) -> Clock:
    clock = waiting()
    clock.open(meta(0, backfill=backfill), "customer-1", Priority.HIGH, TARGET, WARN)
    return clock


def test_a_ticket_starts_the_clock_at_the_time_it_was_opened() -> None:
    clock = opened()
    assert (clock.state, clock.started_at, clock.warn_at, clock.due_at) == ("active", at(0), at(80), at(100))
    assert (clock.wake_at, clock.version) == (at(80), 1)


@pytest.mark.parametrize(
    ("seconds", "state"), [(-5, "achieved"), (0, "achieved"), (100, "achieved"), (100.1, "breached")]
)
def test_a_reply_settles_the_clock_by_its_own_time(seconds: float, state: str) -> None:
    clock = opened()
    clock.reply(at(seconds))
    assert (clock.state, clock.fulfilled_at, clock.wake_at) == (state, at(seconds), None)


def test_a_message_from_long_before_the_ticket_is_no_response_to_it() -> None:
    early, late = opened(), waiting()
    early.reply(at(-3600))
    late.reply(at(-3600))
    late.open(meta(0), "customer-1", Priority.HIGH, TARGET, WARN)
    for clock in (early, late):
        assert (clock.state, clock.fulfilled_at, clock.wake_at) == ("active", None, at(80))
        clock.reply(at(60))
        assert (clock.state, clock.fulfilled_at) == ("achieved", at(60))


@pytest.mark.parametrize(("seconds", "state"), [(0, "cancelled"), (100, "cancelled"), (100.1, "breached")])
def test_closing_the_ticket_unanswered_cancels_the_clock_unless_it_had_run_out(seconds: float, state: str) -> None:
    clock = opened()
    clock.close(at(seconds))
    assert (clock.state, clock.wake_at) == (state, None)


def test_a_closing_dated_before_the_start_is_not_about_this_clock() -> None:
    clock = opened()
    clock.close(at(-1))
    assert (clock.state, clock.version) == ("active", 1)


def test_the_timer_warns_and_then_breaches() -> None:
    clock = opened()
    clock.pass_time(at(80))
    assert (clock.state, clock.warned) == ("active", False)
    clock.pass_time(at(80.1))
    assert (clock.state, clock.warned, clock.wake_at, clock.version) == ("active", True, at(100), 2)
    clock.pass_time(at(100))
    assert clock.state == "active"
    clock.pass_time(at(100.1))
    assert (clock.state, clock.wake_at, clock.version) == ("breached", None, 3)


def test_a_clock_found_past_due_breaches_without_a_warning() -> None:
    clock = opened()
    clock.pass_time(at(101))
    assert (clock.state, clock.warned) == ("breached", False)


def test_a_timely_reply_read_after_the_timer_fired_leaves_the_breach_and_is_recorded() -> None:
    clock = opened()
    clock.pass_time(at(101))
    clock.reply(at(50))
    assert (clock.state, clock.fulfilled_at) == ("breached", at(50))


def test_the_earliest_reply_read_so_far_counts_as_the_first() -> None:
    clock = opened()
    for seconds in (60, 90, 40):
        clock.reply(at(seconds))
    assert (clock.state, clock.fulfilled_at, clock.version) == ("achieved", at(40), 3)


def test_a_reply_read_before_its_ticket_is_remembered() -> None:
    clock = waiting()
    clock.reply(at(50))
    assert (clock.state, clock.fulfilled_at, clock.wake_at) == ("waiting", at(50), None)
    clock.open(meta(0), "customer-1", Priority.HIGH, TARGET, WARN)
    assert (clock.state, clock.fulfilled_at) == ("achieved", at(50))


def test_of_closings_read_before_their_ticket_the_first_counts() -> None:
    clock = waiting()
    clock.close(at(50))
    clock.close(at(700))
    clock.open(meta(0), "customer-1", Priority.HIGH, TARGET, WARN)
    assert clock.state == "cancelled"


def test_a_ticket_closed_and_open_again_before_it_is_read_starts_the_clock() -> None:
    clock = waiting()
    clock.close(at(50))
    clock.reopen(meta(60), WARN)
    clock.open(meta(0), "customer-1", Priority.HIGH, TARGET, WARN)
    assert (clock.state, clock.due_at) == ("active", at(100))


def test_opening_a_ticket_again_changes_nothing() -> None:
    clock = opened()
    before = astuple(clock)
    clock.open(meta(30), "customer-2", Priority.LOW, 5, WARN)
    assert astuple(clock) == before


def test_reopening_an_unanswered_ticket_gives_the_full_time_again() -> None:
    clock = opened()
    clock.pass_time(at(85))
    clock.close(at(90))
    clock.reopen(meta(500), WARN)
    assert (clock.state, clock.started_at, clock.due_at, clock.warned) == ("active", at(500), at(600), False)
    clock.close(at(95))
    assert clock.state == "active"
    clock.close(at(550))
    assert clock.state == "cancelled"


def test_reopening_an_answered_ticket_starts_no_clock() -> None:
    clock = opened()
    clock.close(at(20))
    clock.reply(at(30))
    clock.reopen(meta(40), WARN)
    assert (clock.state, clock.fulfilled_at) == ("cancelled", at(30))


def test_a_reopening_dated_before_the_closing_is_history() -> None:
    clock = opened()
    clock.close(at(20))
    before = astuple(clock)
    clock.reopen(meta(10), WARN)
    assert astuple(clock) == before


@pytest.mark.parametrize(("seconds", "state"), [(19, "achieved"), (20, "achieved"), (21, "cancelled")])
def test_a_reply_read_after_the_closing_counts_if_it_came_no_later(seconds: float, state: str) -> None:
    clock = opened()
    clock.close(at(20))
    clock.reply(at(seconds))
    assert (clock.state, clock.fulfilled_at) == (state, at(seconds))


def test_history_is_never_woken() -> None:
    clock = opened(backfill=True)
    before = astuple(clock)
    clock.pass_time(at(10_000))
    assert clock.wake_at is None
    assert astuple(clock) == before
    clock.reply(at(101))
    assert clock.state == "breached"


def test_a_live_reopening_of_an_imported_ticket_is_timed() -> None:
    clock = opened(backfill=True)
    clock.close(at(10))
    clock.reopen(meta(20), WARN)
    assert clock.wake_at == at(100)


# Laws, whatever comes in whichever order. A step is what happens and its time; the timer's time only goes forward.

Step = tuple[str, float]

moments = st.integers(-20, 250).map(lambda n: n / 1.0)
events = st.tuples(st.sampled_from(["open", "reply", "close", "reopen"]), moments)
timer = st.tuples(st.just("timer"), moments)
histories = st.lists(st.one_of(events, timer), max_size=12)


def forward(history: list[Step]) -> list[Step]:
    ticks = iter(sorted(moment for what, moment in history if what == "timer"))
    return [(what, next(ticks) if what == "timer" else moment) for what, moment in history]


def play(clock: Clock, step: Step, *, backfill: bool = False) -> None:
    what, moment = step
    doing: dict[str, Callable[[], Any]] = {
        "open": lambda: clock.open(meta(moment, backfill=backfill), "customer-1", Priority.HIGH, TARGET, WARN),
        "reply": lambda: clock.reply(at(moment)),
        "close": lambda: clock.close(at(moment)),
        "reopen": lambda: clock.reopen(meta(moment, backfill=backfill), WARN),
        "timer": lambda: clock.pass_time(at(moment)),
    }
    doing[what]()


def states(history: list[Step], *, backfill: bool = False) -> list[ClockState]:
    clock, seen = waiting(), [ClockState.WAITING]
    for step in history:
        play(clock, step, backfill=backfill)
        seen.append(clock.state)
    return seen


@given(histories)
def test_achieved_and_breached_are_final_and_never_both(history: list[Step]) -> None:
    seen = states(forward(history))
    for before, after in pairwise(seen):
        assert before not in (ClockState.ACHIEVED, ClockState.BREACHED) or after is before
    assert len({ClockState.ACHIEVED, ClockState.BREACHED} & set(seen)) <= 1


@given(histories)
def test_every_change_is_a_new_version_and_nothing_else_is(history: list[Step]) -> None:
    clock = waiting()
    for step in forward(history):
        before, version = astuple(clock), clock.version
        play(clock, step)
        assert clock.version - version == (astuple(clock) != before)


@given(histories)
def test_only_a_running_clock_has_something_to_wait_for(history: list[Step]) -> None:
    clock = waiting()
    for step in forward(history):
        play(clock, step)
        assert (clock.wake_at is not None) == (clock.state is ClockState.ACTIVE)


@given(histories)
def test_the_first_reply_is_the_earliest_one_read(history: list[Step]) -> None:
    clock = waiting()
    for step in forward(history):
        play(clock, step)
    replies = [at(moment) for what, moment in history if what == "reply"]
    assert clock.fulfilled_at == min(replies, default=None)


@given(histories)
def test_a_clock_that_was_started_ends_when_time_passes(history: list[Step]) -> None:
    clock = waiting()
    for step in forward(history):
        play(clock, step)
    clock.pass_time(at(10_000))
    assert (clock.state is ClockState.WAITING) == all(what != "open" for what, _ in history)
    assert clock.state is not ClockState.ACTIVE


@given(histories)
def test_the_timer_means_nothing_to_history(history: list[Step]) -> None:
    without = [step for step in history if step[0] != "timer"]
    assert states(history, backfill=True)[-1] is states(without, backfill=True)[-1]


@given(moments, st.lists(timer, max_size=4))
def test_without_a_timely_reply_the_timer_breaches_exactly_once(reply: float, ticks: list[Step]) -> None:
    assume(reply > TARGET)
    history = forward([("open", 0.0), *ticks, ("timer", 9_999.0), ("reply", reply)])
    seen = states(history)
    assert sum(a is not b and b is ClockState.BREACHED for a, b in pairwise(seen)) == 1
    assert seen[-1] is ClockState.BREACHED


@given(st.lists(st.tuples(st.sampled_from(["reply", "close"]), st.integers(0, 250).map(float)), max_size=6), st.data())
def test_a_ticket_read_late_changes_no_outcome(happened: list[Step], data: st.DataObject) -> None:
    happened.sort(key=lambda step: (step[1], step[0] == "close"))
    place = data.draw(st.integers(0, len(happened)))
    late = [*happened[:place], ("open", 0.0), *happened[place:]]
    assert states(late)[-1] is states([("open", 0.0), *happened])[-1]


@given(st.lists(st.integers(0, 250).map(float), min_size=1, max_size=5), st.integers(0, 250).map(float))
def test_read_in_the_order_of_time_the_timer_and_the_times_of_replies_agree(replies: list[float], tick: float) -> None:
    answered: list[Step] = [("open", 0.0), *(("reply", moment) for moment in sorted(replies))]
    timed = sorted([*answered, ("timer", tick)], key=lambda step: (step[1], step[0] == "timer"))
    assert states(timed)[-1] is states(answered)[-1]
