"""Each event is applied once and in order, whatever the batches, also with duplicates and poison events."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from touchpoint.base.errors import PermanentError
from touchpoint.contracts.record import encode
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db import inbox, offsets
from touchpoint.db.engine import COPY_FROM, raw_connection, transaction
from touchpoint.kafka.batch import Batches, LiveFence, decoded
from touchpoint.kafka.dead_letter import Limit
from touchpoint.kafka.handlers import Handlers
from touchpoint.testing.factories import feedback

TOPIC = "touchpoints.v1"

logs = st.lists(st.integers(0, 15), min_size=1, max_size=40)
"""Event numbers in log order; a repeated number is an event sent twice."""


@pytest.fixture
def batches(ledger):
    return Batches("ledger-svc", ledger.handlers, ledger.sessions, Limit(consecutive=1000), LiveFence("ledger-svc"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log=logs,
    cuts=st.sets(st.integers(1, 39)),
    poison=st.sets(st.integers(0, 15), max_size=4),
    copy_from=st.sampled_from([1, 5, 100]),
)
async def test_each_event_is_applied_once_in_order_or_is_a_dead_letter(
    ledger, batches, monkeypatch, log, cuts, poison, copy_from
):
    monkeypatch.setattr(inbox, "COPY_FROM", copy_from)
    await _reset(ledger)

    def refuse(events):
        if any(int(event.meta.id) in poison for event in events):
            raise PermanentError("poison")

    ledger.before = refuse
    starts = {(TOPIC, 0): 0}
    for first, last in _pieces(len(log), cuts):
        records = [_record(number, offset) for offset, number in enumerate(log) if first <= offset < last]
        await batches.apply([decoded(record, ledger.handlers) for record in records], starts)

    once = list(dict.fromkeys(log))
    assert await ledger.ids() == [str(number) for number in once if number not in poison]
    letters = await ledger.query('SELECT "offset" FROM dead_letters ORDER BY "offset"')
    assert [row.offset for row in letters] == [offset for offset, number in enumerate(log) if number in poison]
    assert await ledger.next() == {0: len(log)}
    assert starts == {(TOPIC, 0): len(log)}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs, again=st.integers(0, 39))
async def test_a_window_replayed_changes_nothing(ledger, batches, log, again):
    await _reset(ledger)
    entries = [decoded(_record(number, offset), ledger.handlers) for offset, number in enumerate(log)]
    await batches.apply(entries, {(TOPIC, 0): 0})
    before = await ledger.ids()
    await ledger.query("UPDATE offsets SET next = 0")
    window = entries[: again + 1]
    await batches.apply(window, {(TOPIC, 0): 0})
    assert await ledger.ids() == before
    assert await ledger.query("SELECT 1 FROM conflicts") == []


async def test_a_large_batch_finds_events_that_an_earlier_one_has_applied(ledger, batches):
    await _reset(ledger)
    starts = {(TOPIC, 0): 0}
    first = [_record(number, number) for number in range(3)]
    second = [_record(number, 3 + number) for number in range(2, 2 + COPY_FROM)]
    for records in (first, second):
        await batches.apply([decoded(record, ledger.handlers) for record in records], starts)
    assert await ledger.ids() == [str(number) for number in range(2 + COPY_FROM)]
    assert await ledger.query("SELECT 1 FROM conflicts") == []


class TestPreparing:
    """The `prepare` of handlers, which runs before the batch's transaction."""

    @pytest.fixture
    def handled(self):
        return []

    @pytest.fixture
    def handlers(self, handled):
        handlers = Handlers()

        @handlers.on(FeedbackSubmitted, prepare=_number)
        async def handle(numbers, ctx):
            handled.extend(numbers)

        return handlers

    async def test_gives_a_handler_the_prepared_values_without_none(self, ledger, handlers, handled):
        await self._apply(ledger, handlers, [1, 0, 2])
        assert handled == [1, 2]

    async def test_that_fails_makes_a_dead_letter_of_only_that_event(self, ledger, handlers, handled):
        await self._apply(ledger, handlers, [1, 13, 2])
        assert handled == [1, 2]
        letters = await ledger.query('SELECT "offset", stage, error FROM dead_letters')
        assert [tuple(row) for row in letters] == [(1, "handle", "ArithmeticError")]

    async def test_that_fails_is_ignored_for_an_event_already_applied(self, ledger, handlers, handled):
        await self._apply(ledger, handlers, [1])
        worse = Handlers()
        worse.on(FeedbackSubmitted, prepare=lambda event: 1 // 0)(handlers.registrations[0].handle)
        await self._apply(ledger, worse, [1], first=1)
        assert handled == [1]
        assert await ledger.query("SELECT 1 FROM dead_letters") == []

    async def _apply(self, ledger, handlers, numbers, first=0):
        if not first:
            await _reset(ledger)
        batches = Batches("ledger-svc", handlers, ledger.sessions, Limit(consecutive=1000), LiveFence("ledger-svc"))
        records = [_record(number, first + n) for n, number in enumerate(numbers)]
        await batches.apply([decoded(record, handlers) for record in records], {(TOPIC, 0): first})


def _number(event):
    """The event's number; None for 0, an error for 13."""
    if event.text == "13":
        raise ArithmeticError
    return int(event.text) or None


async def test_a_batch_applies_to_several_partitions_at_once(ledger, batches):
    await _reset(ledger, partitions=3)
    records = [_record(number, number // 3, number % 3) for number in range(600)]
    records.sort(key=lambda record: (record.partition, record.offset))
    await batches.apply([decoded(record, ledger.handlers) for record in records], {(TOPIC, p): 0 for p in range(3)})
    assert await ledger.next() == {0: 200, 1: 200, 2: 200}
    assert len(await ledger.ids()) == 600


def _pieces(length, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < length), length]
    return list(itertools.pairwise(edges))


def _record(number, offset, partition=0):
    return replace(encode(feedback(id=str(number), text=str(number))), partition=partition, offset=offset)


async def _reset(ledger, partitions=1):
    await ledger.query("TRUNCATE ledger, inbox, offsets, outbox, dead_letters, conflicts")
    async with transaction(ledger.sessions) as session:
        raw = await raw_connection(session)
        await offsets.create(raw, "ledger-svc", "cluster", [((TOPIC, p), 0) for p in range(partitions)])
