import itertools
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from escalation_svc.clocks.decisions import Clock, ClockState, Firing, Step, Terms, Transition
from touchpoint.contracts.touchpoints import Priority
from touchpoint.testing import factories as make

TARGET = 100
WARN = 80
TERMS = Terms("customer-1", Priority.HIGH, TARGET, WARN)

ids = itertools.count()


def at(seconds: float) -> datetime:
    return make.NOON + timedelta(seconds=seconds)


def step(what: str, seconds: float, *, backfill: bool = False, **over: Any) -> Transition:
    """A transition with a unique id; transitions are recorded in the order in which they are created."""
    number = next(ids)
    event = make.ticket_opened(
        id=str(number), time=at(seconds), backfill=backfill, recorded=at(10_000 + number / 1000), **over
    )
    return Transition(Step(what), event.meta, TERMS if what == "opened" else None)


def clock_after(*steps: Transition) -> Clock:
    clock = Clock.of_ticket("acme", "ticket-1")
    for each in steps:
        clock.read(each)
    return clock


def opened(*, backfill: bool = False) -> Clock:
    return clock_after(step("opened", 0, backfill=backfill))


def in_every_order(*steps: Transition) -> Clock:
    """The clock after these transitions. It must be the same in every order, except for `version`."""
    clocks = [clock_after(*order) for order in permutations(steps)]
    for clock in clocks:
        clock.version = 0
    assert all(clock == clocks[0] for clock in clocks)
    return clocks[0]


def test_a_ticket_starts_the_clock_at_the_time_it_was_opened() -> None:
    clock = opened()
    assert (clock.state, clock.started_at, clock.warn_at, clock.due_at) == ("active", at(0), at(80), at(100))
    assert (clock.wake_at, clock.version) == (at(80), 1)


@pytest.mark.parametrize(("seconds", "state"), [(-300, "achieved"), (0, "achieved"), (100, "achieved")])
def test_a_reply_settles_the_clock_by_its_own_time(seconds: float, state: str) -> None:
    clock = in_every_order(step("opened", 0), step("replied", seconds))
    assert (clock.state, clock.fulfilled_at, clock.wake_at) == (state, at(seconds), None)


@pytest.mark.parametrize("what", ["replied", "closed"])
def test_a_late_reply_or_closing_leaves_the_breach_of_a_live_clock_to_the_timer(what: str) -> None:
    clock = in_every_order(step("opened", 0), step(what, 100.1))
    assert (clock.state, clock.wake_at) == ("active", at(80))
    clock.pass_time(at(101))
    assert clock.state == "breached"


def test_a_reply_over_five_minutes_older_than_the_ticket_is_ignored() -> None:
    clock = in_every_order(step("opened", 0), step("replied", -300.1))
    assert (clock.state, clock.fulfilled_at, clock.wake_at) == ("active", None, at(80))


def test_a_reply_from_long_before_the_ticket_does_not_hide_a_later_one() -> None:
    clock = in_every_order(step("replied", -3600), step("replied", 60), step("opened", 0))
    assert (clock.state, clock.fulfilled_at) == ("achieved", at(60))


@pytest.mark.parametrize("seconds", [-300, -0.5, 0, 100])
def test_closing_the_ticket_unanswered_cancels_the_clock(seconds: float) -> None:
    clock = in_every_order(step("opened", 0), step("closed", seconds))
    assert (clock.state, clock.closed_at, clock.wake_at) == ("cancelled", at(seconds), None)


def test_a_closing_over_five_minutes_older_than_the_ticket_is_ignored() -> None:
    assert in_every_order(step("opened", 0), step("closed", -300.1)).state == "active"


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
    clock.read(step("replied", 50))
    assert (clock.state, clock.fulfilled_at) == ("breached", at(50))


def test_the_earliest_reply_counts_as_the_first() -> None:
    clock = in_every_order(step("opened", 0), step("replied", 60), step("replied", 90), step("replied", 40))
    assert (clock.state, clock.fulfilled_at) == ("achieved", at(40))


def test_of_several_closings_the_first_counts() -> None:
    clock = in_every_order(step("closed", 50), step("closed", 700), step("opened", 0))
    assert (clock.state, clock.closed_at) == ("cancelled", at(50))


def test_a_ticket_closed_and_open_again_is_timed_from_the_reopening_with_the_full_target() -> None:
    clock = in_every_order(step("closed", 50), step("reopened", 60), step("opened", 0))
    assert (clock.state, clock.started_at, clock.due_at) == ("active", at(60), at(160))


def test_closed_and_open_again_in_one_second_the_order_of_recording_decides() -> None:
    closed, reopened = step("closed", 50), step("reopened", 50)
    assert in_every_order(step("opened", 0), closed, reopened).state == "active"
    reopened, closed = step("reopened", 50), step("closed", 50)
    assert in_every_order(step("opened", 0), closed, reopened).state == "cancelled"


def test_of_two_openings_the_earlier_one_counts() -> None:
    clock = in_every_order(step("opened", 30), step("opened", 0), step("replied", -290))
    assert (clock.started_at, clock.fulfilled_at) == (at(0), at(-290))


def test_a_later_opening_changes_nothing() -> None:
    clock = opened()
    before = deepcopy(clock)
    clock.read(step("opened", 30))
    assert clock == before


def test_reopening_an_unanswered_ticket_gives_the_full_time_again_and_another_warning() -> None:
    clock = opened()
    clock.pass_time(at(85))
    clock.read(step("closed", 90))
    clock.read(step("reopened", 500))
    assert (clock.state, clock.started_at, clock.due_at, clock.warned) == ("active", at(500), at(600), False)
    clock.read(step("closed", 95))
    assert clock.state == "active"
    clock.read(step("closed", 550))
    assert clock.state == "cancelled"


def test_reopening_an_answered_ticket_starts_no_clock() -> None:
    clock = in_every_order(step("opened", 0), step("closed", 20), step("replied", 30), step("reopened", 40))
    assert (clock.state, clock.fulfilled_at) == ("cancelled", at(30))


def test_a_reopening_dated_before_the_closing_does_not_restart_the_clock() -> None:
    assert in_every_order(step("opened", 0), step("closed", 20), step("reopened", 10)).state == "cancelled"


@pytest.mark.parametrize(("seconds", "state"), [(19, "achieved"), (20, "achieved"), (21, "cancelled")])
def test_of_reply_and_closing_the_first_counts_and_at_one_moment_the_reply(seconds: float, state: str) -> None:
    clock = in_every_order(step("opened", 0), step("closed", 20), step("replied", seconds))
    assert (clock.state, clock.fulfilled_at) == (state, at(seconds))


def test_the_timer_does_not_act_on_an_imported_clock() -> None:
    clock = opened(backfill=True)
    before = deepcopy(clock)
    clock.pass_time(at(10_000))
    assert clock.wake_at is None
    assert clock == before
    clock.read(step("replied", 101))
    assert clock.state == "breached"


def test_an_imported_clock_is_achieved_by_a_timely_reply_whichever_reply_is_consumed_first() -> None:
    clock = in_every_order(step("opened", 0, backfill=True), step("replied", 101), step("replied", 40))
    assert clock.state == "achieved"


def test_a_live_reopening_of_an_imported_ticket_is_timed() -> None:
    clock = in_every_order(step("opened", 0, backfill=True), step("closed", 10), step("reopened", 20))
    assert clock.wake_at == at(100)


def test_transitions_that_can_never_matter_are_dropped() -> None:
    steps = [step("opened", 0), step("replied", 40), step("closed", 50), step("opened", 10), step("replied", 60)]
    older = step("replied", -400)
    assert in_every_order(*steps, older).history == [older, steps[0], steps[1]]


# Property tests on any events in any order. An event is a step and a time; the timer's time only moves forward.

Happening = tuple[str, float]

moments = st.integers(-20, 250).map(lambda n: n / 1.0)
events = st.tuples(st.sampled_from(["opened", "replied", "closed", "reopened"]), moments)
timer = st.tuples(st.just("timer"), moments)
histories = st.lists(st.one_of(events, timer), max_size=12)


def forward(history: list[Happening]) -> list[Happening]:
    ticks = iter(sorted(moment for what, moment in history if what == "timer"))
    return [(what, next(ticks) if what == "timer" else moment) for what, moment in history]


def play(clock: Clock, happening: Happening, *, backfill: bool = False) -> None:
    what, moment = happening
    if what == "timer":
        clock.pass_time(at(moment))
    else:
        clock.read(step(what, moment, backfill=backfill))


def states(history: list[Happening], *, backfill: bool = False) -> list[ClockState]:
    clock, seen = clock_after(), [ClockState.WAITING]
    for happening in history:
        play(clock, happening, backfill=backfill)
        seen.append(clock.state)
    return seen


@given(st.lists(events, max_size=8), st.booleans(), st.data())
def test_the_order_of_events_and_repeated_events_change_nothing(
    happened: list[Happening], backfill: bool, data: st.DataObject
) -> None:
    steps = [step(what, moment, backfill=backfill) for what, moment in happened]
    clock, other = clock_after(*steps), clock_after(*data.draw(st.permutations([*steps, *steps[:2]])))
    clock.version = other.version = 0
    assert clock == other


@given(histories)
def test_a_breach_by_the_timer_is_final(history: list[Happening]) -> None:
    seen = states(forward(history))
    for before, after in pairwise(seen):
        assert before is not ClockState.BREACHED or after is before


@given(histories)
def test_the_version_grows_exactly_when_the_clock_changes(history: list[Happening]) -> None:
    clock = clock_after()
    for happening in forward(history):
        before = deepcopy(clock)
        play(clock, happening)
        before.version, version = clock.version, before.version
        assert clock.version - version == (before != clock)


@given(histories)
def test_a_clock_has_a_wake_time_exactly_while_it_is_active(history: list[Happening]) -> None:
    clock = clock_after()
    for happening in forward(history):
        play(clock, happening)
        assert (clock.wake_at is not None) == (clock.state is ClockState.ACTIVE)


@given(histories)
def test_the_first_reply_is_the_earliest_one_consumed(history: list[Happening]) -> None:
    clock = clock_after()
    for happening in forward(history):
        play(clock, happening)
    replies = [at(moment) for what, moment in history if what == "replied"]
    assert clock.fulfilled_at == (min(replies, default=None) if clock.cause else None)


@given(histories)
def test_a_clock_that_was_started_ends_when_time_passes(history: list[Happening]) -> None:
    clock = clock_after()
    for happening in forward(history):
        play(clock, happening)
    clock.pass_time(at(10_000))
    assert (clock.state is ClockState.WAITING) == all(what != "opened" for what, _ in history)
    assert clock.state is not ClockState.ACTIVE


@given(histories)
def test_the_timer_does_not_change_the_final_state_of_an_imported_clock(history: list[Happening]) -> None:
    without = [happening for happening in history if happening[0] != "timer"]
    assert states(history, backfill=True)[-1] is states(without, backfill=True)[-1]


@given(moments, st.lists(timer, max_size=4))
def test_without_a_timely_reply_the_timer_breaches_exactly_once(reply: float, ticks: list[Happening]) -> None:
    assume(reply > TARGET)
    history = forward([("opened", 0.0), *ticks, ("timer", 9_999.0), ("replied", reply)])
    seen = states(history)
    assert sum(a is not b and b is ClockState.BREACHED for a, b in pairwise(seen)) == 1
    assert seen[-1] is ClockState.BREACHED


@given(st.lists(st.integers(0, 250).map(float), min_size=1, max_size=5), st.integers(0, 250).map(float))
def test_if_events_are_consumed_in_time_order_an_earlier_run_of_the_timer_changes_nothing(
    replies: list[float], tick: float
) -> None:
    answered: list[Happening] = [("opened", 0.0), *(("replied", moment) for moment in sorted(replies))]
    timed = sorted([*answered, ("timer", tick)], key=lambda happening: (happening[1], happening[0] == "timer"))
    end: Happening = ("timer", 10_000.0)
    assert states([*timed, end])[-1] is states([*answered, end])[-1]


@pytest.mark.parametrize("ticks", [[81], [101], [81, 101]], ids=["warned", "breached", "warned and breached"])
def test_what_the_timer_published_is_read_back_alike_in_any_order(ticks: list[float]) -> None:
    steps = [step("opened", 0), step("replied", 150), step("closed", 160)]
    undisturbed = clock_after(steps[0])
    for tick in ticks:
        undisturbed.pass_time(at(tick))
    for each in steps[1:]:
        undisturbed.read(each)
    for order in permutations([*steps, *undisturbed.fired]):
        clock = Clock.of_ticket("acme", "ticket-1")
        for each in order:
            clock.fold(each) if isinstance(each, Firing) else clock.read(each)
        assert clock.started_at == undisturbed.started_at
        clock.version = undisturbed.version
        assert clock == undisturbed


def test_a_breach_read_back_before_its_ticket_is_final_with_the_terms_it_was_published_with() -> None:
    published = opened()
    published.pass_time(at(101))
    clock = Clock.of_ticket("acme", "ticket-1")
    clock.fold(published.fired[0])
    assert (clock.state, clock.started_at, clock.due_at) == ("breached", at(0), at(100))
    assert (clock.customer_id, clock.priority, clock.target_seconds) == ("customer-1", "high", TARGET)
    clock.read(step("replied", 50))
    assert (clock.state, clock.wake_at) == ("breached", None)


def test_a_firing_that_is_read_back_changes_nothing_where_the_clock_has_it() -> None:
    clock = opened()
    clock.pass_time(at(81))
    before = deepcopy(clock)
    for firing in before.fired:
        clock.fold(firing)
    assert clock == before
