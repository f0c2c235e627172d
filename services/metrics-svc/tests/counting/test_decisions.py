import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_svc.counting import sketch
from metrics_svc.counting.decisions import Key, Ledger, Sums, Ticket, changed, changes, counts, moments, ticket_keys
from metrics_svc.counting.models import Answer, Cell, Change, Group, Moment
from touchpoint.base.errors import PermanentError
from touchpoint.contracts.base import Event
from touchpoint.testing import factories as make

Logs = Callable[[str], st.SearchStrategy[list[Event]]]
Recount = Callable[[Sequence[Event]], dict[Any, list[int]]]


class Memory:
    """A fake of the tables, as dictionaries; `batch` does what the service does with a batch."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.answers: dict[Any, Answer] = {}
        self.tickets: dict[Key, Ticket] = {}
        self.cells: dict[Cell, Sums] = {}

    def batch(self, events: Sequence[Any]) -> None:
        counted = [event for event in events if counts(event)]
        self.changes = sorted([*self.changes, *changes(counted)], key=lambda change: change[:5])
        customers, keys = changed(counted), ticket_keys(counted)
        tickets = {key: self.tickets.get(key, Ticket()) for key in keys} | {
            key: ticket
            for key, ticket in self.tickets.items()
            if ticket.opening and (key[0], ticket.opening.customer_id) in customers
        }
        answers = [answer for answer in self.answers.values() if answer[:2] in customers]
        ledger = Ledger(tickets, {moment: self.group(moment) for moment in moments(counted, tickets, answers)})
        ledger.regroup(customers, answers)
        for event in counted:
            ledger.count(event)
        self.answers |= {answer.event_id: answer for answer in (*ledger.answers, *ledger.moved)}
        self.tickets |= ledger.tickets
        for cell, sums in ledger.cells.items():
            before = self.cells.get(cell, Sums())
            self.cells[cell] = Sums(before.n + sums.n, before.total + sums.total)

    def group(self, moment: Moment) -> Group:
        """Each field's last value given by then; before the first one was given, the first."""
        own = [change for change in self.changes if change[:2] == moment[:2]]
        result = {}
        for name in Group._fields:
            given = [change for change in own if getattr(change, name) is not None]
            if given:
                result[name] = getattr(([given[0]] + [change for change in given if change.at <= moment[2]])[-1], name)
        return Group(**result)

    def sums(self) -> dict[tuple[Any, ...], tuple[dict[int, int], int]]:
        """Summed over partitions: by key, the counts by bucket and the total."""
        result: dict[tuple[Any, ...], tuple[Counter[int], int]] = {}
        for cell, sums in self.cells.items():
            about = cell[: Cell._fields.index("bucket")]
            buckets, total = result.get(about, (Counter(), 0))
            result[about] = (buckets + Counter({cell.bucket: sums.n}), total + sums.total)
        return {fact: (dict(buckets), total) for fact, (buckets, total) in result.items() if buckets}


def counted(*events: Event) -> Memory:
    memory = Memory()
    memory.batch(events)
    return memory


def cell(memory: Memory) -> tuple[Cell, Sums]:
    ((only, sums),) = memory.cells.items()
    return only, sums


def durations(memory: Memory, metric: str) -> list[tuple[str, int, int]]:
    """Hour of the day, n and total seconds of each cell of a metric that holds something."""
    return sorted(
        (c.quarter.strftime("%H"), sums.n, sums.total // 1_000_000)
        for c, sums in memory.cells.items()
        if c.metric == metric and sums.n
    )


def expected(facts: dict[Any, list[int]]) -> dict[Any, Any]:
    """Convert raw scores and durations to counts by bucket and a total."""
    return {
        fact: (dict(Counter(value if fact[3] else sketch.bucket(value) for value in values)), sum(values))
        for fact, values in facts.items()
    }


def later(minutes: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(minutes=minutes)}


@given(st.data())
def test_the_counts_equal_a_recount_for_any_log_in_any_batches(
    logs: Logs, recount: Recount, data: st.DataObject
) -> None:
    log = data.draw(logs("acme"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4)))
    memory = Memory()
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        memory.batch(log[start:end])
    assert memory.sums() == expected(recount(log))


@given(st.data())
def test_the_same_events_give_the_same_sums_in_any_order(logs: Logs, data: st.DataObject) -> None:
    log = data.draw(logs("acme"))
    shuffled = data.draw(st.permutations(log))
    cut = data.draw(st.integers(0, len(log)))
    memory = counted(*shuffled[:cut])
    memory.batch(shuffled[cut:])
    assert memory.sums() == counted(*log).sums()
    assert (memory.tickets, memory.answers) == (counted(*log).tickets, counted(*log).answers)


def test_a_score_is_counted_in_the_bucket_of_its_value_on_its_scale() -> None:
    only, sums = cell(counted(make.feedback(kind="ces", score=6, channel="chat", partition=2, **later(59))))
    assert only == Cell(
        "acme", "ces", make.NOON + timedelta(minutes=45), "1-7", "chat", "unknown", "unknown", bucket=6, partition=2
    )
    assert sums == Sums(1, 6)


def test_the_quarter_of_an_hour_is_in_utc_whatever_the_offset_of_the_event() -> None:
    noon_in_kolkata = make.NOON.astimezone(ZoneInfo("Asia/Kolkata"))
    assert cell(counted(make.feedback(time=noon_in_kolkata)))[0].quarter == make.NOON


def test_feedback_of_a_kind_without_a_metric_is_not_counted() -> None:
    assert counted(make.feedback(kind="rating", score=4), make.feedback(kind="text", score=None)).cells == {}


@given(st.permutations(range(8)))
def test_an_answer_counts_under_the_segment_and_tier_of_its_customer_at_its_time(order: list[int]) -> None:
    events = [
        make.customer_updated(segment="smb", tier="key"),
        make.feedback(score=2, **later(1)),
        make.customer_updated(tier=None, **later(2)),
        make.feedback(score=3, **later(3)),
        make.customer_updated(name="Another name", **later(4)),
        make.feedback(score=4, **later(5)),
        make.customer_updated(segment="enterprise", **later(6)),
        make.feedback(score=5, customer_id=None, **later(7)),
    ]
    memory = Memory()
    for place in order:
        memory.batch([events[place]])
    assert {(c.bucket, c.segment, c.tier) for c, sums in memory.cells.items() if sums.n} == {
        (2, "smb", "key"),
        (3, "smb", "unknown"),
        (4, "smb", "unknown"),
        (5, "unknown", "unknown"),
    }


def test_before_the_first_known_change_its_values_apply() -> None:
    memory = counted(make.customer_updated(tier="key", **later(1)), make.feedback(), make.ticket_opened())
    memory.batch([make.customer_updated(segment="smb", **later(2)), make.ticket_replied(**later(3))])
    assert {(c.metric, c.segment, c.tier) for c, sums in memory.cells.items() if sums.n} == {
        ("nps", "smb", "key"),
        ("first-response", "smb", "key"),
    }


def test_the_same_customer_id_of_two_tenants_is_two_customers() -> None:
    memory = counted(make.customer_updated(tier="key", tenant="acme"), make.feedback(tenant="globex"))
    assert cell(memory)[0].tier == "unknown"


def test_the_first_response_is_the_first_public_reply_of_a_human_agent() -> None:
    memory = counted(
        make.ticket_opened(),
        make.ticket_replied(author="bot", **later(1)),
        make.ticket_replied(author="agent", public=False, **later(2)),
        make.ticket_replied(author="customer", **later(3)),
        make.ticket_replied(author="agent", **later(70)),
        make.ticket_replied(author="agent", **later(80)),
    )
    assert durations(memory, "first-response") == [("13", 1, 70 * 60)]


def test_only_the_first_resolution_of_a_ticket_counts() -> None:
    memory = counted(
        make.ticket_opened(),
        make.ticket_status_changed(status="pending", **later(5)),
        make.ticket_status_changed(status="resolved", **later(30)),
        make.ticket_status_changed(status="open", **later(40)),
        make.ticket_status_changed(status="closed", **later(500)),
    )
    assert durations(memory, "resolution") == [("12", 1, 30 * 60)]


def test_a_reply_consumed_before_its_opening_is_counted_once_the_opening_is_consumed() -> None:
    memory = counted(make.ticket_replied(**later(10)))
    assert memory.cells == {}
    memory.batch([make.ticket_opened()])
    assert durations(memory, "first-response") == [("12", 1, 600)]


def test_an_earlier_reply_consumed_later_replaces_the_counted_one() -> None:
    memory = counted(make.ticket_opened(), make.ticket_replied(**later(90)))
    memory.batch([make.ticket_replied(**later(10))])
    assert durations(memory, "first-response") == [("12", 1, 600)]


def test_a_ticket_counts_under_the_segment_and_channel_of_its_opening() -> None:
    memory = counted(
        make.customer_updated(segment="smb"),
        make.ticket_opened(channel="chat"),
        make.customer_updated(segment="enterprise", **later(1)),
        make.ticket_replied(channel="email", **later(10)),
    )
    only, _ = cell(memory)
    assert (only.segment, only.channel) == ("smb", "chat")


def test_a_reply_up_to_five_minutes_before_the_opening_counts_as_zero_seconds() -> None:
    memory = counted(make.ticket_opened(), make.ticket_replied(**later(-5)))
    assert durations(memory, "first-response") == [("11", 1, 0)]


def test_a_reply_over_five_minutes_before_the_opening_is_ignored() -> None:
    memory = counted(make.ticket_opened(), make.ticket_replied(**later(-5.1)))
    assert memory.cells == {}
    memory.batch([make.ticket_replied(**later(10))])
    assert durations(memory, "first-response") == [("12", 1, 600)]


def test_backfill_is_counted_like_live_events() -> None:
    assert cell(counted(make.feedback(backfill=True)))[1].n == 1


@pytest.mark.parametrize(
    "score", [{"value": 11, "min": 0, "max": 10}, {"value": 3, "min": 1, "max": 5}, {"value": 7.5, "min": 0, "max": 10}]
)
def test_a_score_off_its_scale_is_a_permanent_error_that_names_its_kind(score: dict[str, float]) -> None:
    # The gateway refuses these. A consumer reads tolerantly, so it has to validate again.
    body = {"kind": "nps", "channel": "email", "score": score}
    event = type(make.feedback()).read_tolerantly(json.dumps(body).encode()).with_meta(make.feedback().meta)
    with pytest.raises(PermanentError, match="nps"):
        counted(event)
