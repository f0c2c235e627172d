"""Replays against real Kafka and PostgreSQL: they fill gaps and change nothing else, even if interrupted anywhere."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from touchpoint.base.errors import TransientError, UsageError
from touchpoint.contracts.record import encode
from touchpoint.db import erasures, replays
from touchpoint.db.engine import raw_connection, transaction
from touchpoint.kafka import batch
from touchpoint.replay import run as run_module
from touchpoint.replay.plan import plan_repair, redrive
from touchpoint.replay.selection import Bound, Selection, Window
from touchpoint.replay.worker import Replayer
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback, ticket_opened, ticket_replied, usage_reported

TOPIC = "touchpoints.v1"
CONSUMER = "ledger-svc"
ALL = Window(Bound(places={(TOPIC, partition): 0 for partition in range(3)}))


def numbered(count, first=0, **over):
    return [feedback(id=f"e{n}", customer_id=f"c{n % 7}", **over) for n in range(first, first + count)]


class Replays:
    """An operator's actions on replays, and the resulting state."""

    def __init__(self, ledger, kafka):
        self.ledger, self.kafka = ledger, kafka

    async def plan(self, window=ALL, **selection):
        async with transaction(self.ledger.sessions) as session:
            return await plan_repair(session, self.kafka, CONSUMER, window, Selection(**selection), who="ada")

    async def change(self, replay, action, **settings):
        async with transaction(self.ledger.sessions) as session:
            return await replays.change(session, str(replay.id), action, "ada", "a test", **settings)

    async def run(self, *, max_errors=1000, rate=None, **plan):
        replay = await self.plan(**plan)
        return await self.change(replay, "run", max_errors=max_errors, rate=rate)

    async def redrive(self, places, max_errors=1000):
        async with transaction(self.ledger.sessions) as session:
            return await redrive(session, CONSUMER, places, "ada", "a test", max_errors=max_errors)

    async def now(self, replay):
        async with transaction(self.ledger.sessions) as session:
            return await replays.get(session, str(replay.id))

    async def ended(self, replay, seconds=30):
        async def over():
            current = await self.now(replay)
            return current if current.state in ("done", "failed", "aborted") else None

        return await eventually(over, seconds)

    async def lose(self, ids):
        """Delete all effects of these events, as if they had never been applied."""
        ids = list(ids)
        await self.ledger.query(
            "DELETE FROM inbox WHERE (topic, partition, \"offset\") IN "
            "(SELECT topic, partition, position FROM ledger WHERE event_id = ANY(:ids))", ids=ids,
        )  # fmt: skip
        await self.ledger.query("DELETE FROM ledger WHERE event_id = ANY(:ids)", ids=ids)

    async def checksum(self):
        written = "SELECT event_id, type, topic, partition, position FROM ledger"
        rows = await self.ledger.query(
            f"SELECT md5(string_agg(l::text, ';' ORDER BY event_id)) AS sum FROM ({written}) AS l"
        )
        return rows[0].sum


@pytest.fixture
def ops(ledger, kafka):
    return Replays(ledger, kafka)


@pytest.fixture
async def applied(log, ledger, consuming, replaying):
    """A function that writes events to three partitions and waits until the live consumer has applied them."""

    async def write(*events, spread=True):
        before = len(await ledger.ids())
        for number, event in enumerate(events):
            await log.append(event, partition=number % 3 if spread else 0)
        async with consuming():
            await eventually(lambda: _read_all(ledger, len(events) + before_total[0]), 30)
        before_total[0] += len(events)
        return before

    before_total = [0]
    async with replaying():
        await eventually(lambda: ledger.query("SELECT 1 FROM subscriptions"))
    return write


async def _read_all(ledger, count):
    return sum((await ledger.next()).values()) == count


async def test_a_replay_of_applied_events_changes_nothing(applied, ledger, ops, replaying):
    await applied(*numbered(300))
    before = await ledger.query("SELECT * FROM ledger ORDER BY seq")
    replay = await ops.run()
    assert replay.summary["types"] == {
        "feedback.submitted": {"matching": 300, "applied": 300, "missing": 0, "dead_letters": 0, "erased": 0}
    }
    async with replaying():
        done = await ops.ended(replay)
    assert (done.state, done.counts) == (
        "done", {"matched": 300, "applied": 0, "already_applied": 300, "failed": 0, "erased": 0}
    )  # fmt: skip
    assert done.passed == done.length == 300
    assert await ledger.query("SELECT * FROM ledger ORDER BY seq") == before


async def test_a_replay_applies_exactly_the_missing_events_that_it_planned(applied, ledger, ops, replaying):
    await applied(*numbered(300))
    whole = await ops.checksum()
    lost = random.Random(1).sample([f"e{n}" for n in range(300)], 40)
    await ops.lose(lost)
    replay = await ops.run()
    assert (replay.summary["missing"], replay.summary["applied"]) == (40, 260)
    async with replaying():
        done = await ops.ended(replay)
    assert (done.state, done.applied, done.already_applied) == ("done", 40, 260)
    assert await ops.checksum() == whole
    assert len(await ledger.ids()) == 300


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lost=st.sets(st.integers(0, 59), max_size=25),
    starts=st.tuples(*[st.integers(0, 20)] * 3),
    lengths=st.tuples(*[st.integers(0, 20)] * 3),
)
async def test_a_replay_applies_the_missing_events_of_any_window_and_no_others(
    applied, ledger, ops, replaying, lost, starts, lengths
):
    if not await ledger.ids():
        await applied(*numbered(60))
    ends = [min(start + length, 20) for start, length in zip(starts, lengths, strict=True)]
    window = Window(
        Bound(places={(TOPIC, p): start for p, start in enumerate(starts)}),
        Bound(places={(TOPIC, p): end for p, end in enumerate(ends)}),
    )
    inside = {n for n in lost if starts[n % 3] <= n // 3 < ends[n % 3]}
    await ops.lose(f"e{n}" for n in lost)
    async with replaying():
        done = await ops.ended(await ops.run(window=window))
        assert (done.applied, done.matched) == (
            len(inside), sum(end - start for start, end in zip(starts, ends, strict=True))
        )  # fmt: skip
        assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(60) if n not in lost - inside)
        assert (await ops.ended(await ops.run())).applied == len(lost - inside)
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(60))


async def test_a_replay_stopped_at_random_points_has_the_same_result(applied, ledger, ops, kafka, monkeypatch):
    """The worker is cancelled at any point, like a kill: uncommitted work is lost, committed work counts."""
    monkeypatch.setattr(run_module, "BATCH_RECORDS", 20)
    await applied(*numbered(600))
    whole, chance = await ops.checksum(), random.Random(5)
    await ops.lose(f"e{n}" for n in range(600) if n % 3 != 1)
    replay = await ops.run()
    stops = 0
    while (await ops.now(replay)).state == "running":
        worker = asyncio.create_task(Replayer(CONSUMER, ledger.handlers, kafka, ledger.sessions).run(asyncio.Event()))
        passed = (await ops.now(replay)).passed
        further = passed + chance.randrange(1, 60)
        await eventually(lambda further=further: _passed(ops, replay, further))
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        stops += 1
    done = await ops.now(replay)
    assert stops > 5
    assert (done.state, done.applied, done.already_applied) == ("done", 400, 200)
    assert await ops.checksum() == whole
    assert len(await ledger.ids()) == 600


async def _passed(ops, replay, offsets):
    now = await ops.now(replay)
    return now.passed >= offsets or now.state != "running"


async def test_a_replay_does_not_block_the_live_consumer(applied, log, ledger, ops, replaying, consuming):
    await applied(*numbered(300))
    await ops.lose(f"e{n}" for n in range(300))
    replay = await ops.run(rate=1)
    async with replaying(), consuming():
        await log.append(*numbered(50, first=300), partition=1)
        await eventually(lambda: _has(ledger, {f"e{n}" for n in range(300, 350)}))
        assert (await ops.now(replay)).state == "running"
        await ops.change(replay, "pause")
        await ops.change(replay, "resume", rate=10_000)
        done = await ops.ended(replay)
    assert (done.applied, done.length) == (300, 300)
    assert await ledger.next() == {0: 100, 1: 150, 2: 100}
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(350))


async def _has(ledger, ids):
    return ids <= set(await ledger.ids())


async def test_a_replay_ends_at_the_live_consumers_offset(applied, log, ledger, ops, replaying):
    await applied(*numbered(30))
    await log.append(*numbered(5, first=30))
    replay = await ops.run()
    assert replay.summary["behind"] == 5
    async with replaying():
        assert (await ops.ended(replay)).matched == 30
    assert len(await ledger.ids()) == 30


async def test_only_selected_events_are_applied(applied, ledger, ops, replaying):
    events = [
        *numbered(7),
        ticket_opened(id="t0", customer_id="c0"),
        ticket_replied(id="r0", customer_id="c0"),
        feedback(id="other", customer_id="c0", tenant="globex"),
        usage_reported(id="not-ours", customer_id="c0"),
    ]
    await applied(*events)
    await ops.lose(await ledger.ids())
    async with replaying():
        done = await ops.ended(await ops.run(types=("feedback.submitted",), tenant="acme", customer="c0"))
        assert (done.matched, done.applied) == (1, 1)
        assert await ledger.ids() == ["e0"]
        done = await ops.ended(await ops.run(tenant="acme", customer="c0"))
        assert (done.matched, done.applied, done.already_applied) == (3, 2, 1)
        done = await ops.ended(await ops.run(tenant="globex"))
        assert await ledger.ids() == ["e0", *sorted(["t0", "r0"], key=[e.meta.id for e in events].index), "other"]


async def test_an_erased_customer_stays_erased(applied, ledger, ops, replaying):
    await applied(*numbered(70))
    await ops.lose(f"e{n}" for n in range(70))
    async with transaction(ledger.sessions) as session:
        await erasures.note(await raw_connection(session), ("acme", "c3"), "ada", "asked for it")
    replay = await ops.run()
    assert (replay.summary["erased"], replay.summary["missing"]) == (10, 60)
    async with replaying():
        done = await ops.ended(replay)
    assert (done.matched, done.applied, done.erased) == (70, 60, 10)
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(70) if n % 7 != 3)


async def test_an_erasure_during_a_batch_waits_for_it_and_deletes_its_rows(applied, ledger, ops, replaying):
    """An erasure waits for the batch in progress, and so sees and deletes its rows."""
    await applied(*numbered(7))
    await ops.lose(f"e{n}" for n in range(7))
    erasing = []

    async def erase():
        async with transaction(ledger.sessions) as session:
            await erasures.note(await raw_connection(session), ("acme", "c3"), "ada", "asked for it")
            await session.execute(text("DELETE FROM ledger WHERE event_id = 'e3'"))

    ledger.before = lambda events: erasing.append(asyncio.ensure_future(erase())) if not erasing else None
    async with replaying():
        done = await ops.ended(await ops.run())
    await asyncio.gather(*erasing)
    assert done.applied == 7
    assert sorted(await ledger.ids()) == [f"e{n}" for n in range(7) if n != 3]


class TestFailures:
    """Replays of events that fail again, or for the first time."""

    async def test_are_counted_and_become_dead_letters_without_stopping_the_replay(
        self, applied, ledger, ops, replaying, poison
    ):
        await applied(*numbered(60))
        await ops.lose(f"e{n}" for n in range(60))
        poison |= {"e10", "e41"}
        async with replaying():
            done = await ops.ended(await ops.run())
        assert (done.state, done.matched, done.applied, done.failed) == ("done", 60, 58, 2)
        letters = await ledger.query('SELECT partition, "offset", state, attempt FROM dead_letters ORDER BY 1, 2')
        assert [tuple(row) for row in letters] == [(1, 3, "open", 1), (2, 13, "open", 1)]

    @pytest.mark.parametrize("two_lanes_from", [1000, 10])
    async def test_above_the_limit_fail_the_replay_which_can_be_resumed(
        self, applied, ledger, ops, replaying, poison, monkeypatch, two_lanes_from
    ):
        monkeypatch.setattr(batch, "TWO_LANES_FROM", two_lanes_from)
        await applied(*numbered(60))
        await ops.lose(f"e{n}" for n in range(60))
        poison |= {f"e{n}" for n in range(60) if n % 10 == 0}
        replay = await ops.run(max_errors=2)
        async with replaying():
            failed = await ops.ended(replay)
            assert (failed.state, failed.failed) == ("failed", 2)
            assert "more than 2 events failed" in failed.error
            assert len(await ledger.query("SELECT * FROM dead_letters")) == 2
            await ops.change(replay, "resume", max_errors=10)
            done = await ops.ended(replay)
        assert (done.state, done.applied, done.failed) == ("done", 54, 6)

    async def test_with_transient_errors_are_retried(self, applied, ledger, ops, replaying):
        await applied(*numbered(30))
        await ops.lose(f"e{n}" for n in range(30))
        failures = 2

        def fail_twice(events):
            nonlocal failures
            if failures:
                failures -= 1
                raise TransientError("not now")

        ledger.before = fail_twice
        async with replaying():
            done = await ops.ended(await ops.run(max_errors=0))
        assert (done.state, done.applied, done.failed) == ("done", 30, 0)

    async def test_that_were_dead_letters_are_retried_and_closed_or_counted_again(
        self, applied, ledger, ops, replaying, poison
    ):
        poison |= {"e10", "e41"}
        await applied(*numbered(60))
        poison.remove("e41")
        replay = await ops.run()
        assert (replay.summary["dead_letters"], replay.summary["applied"]) == (2, 58)
        async with replaying():
            done = await ops.ended(replay)
        assert (done.applied, done.already_applied, done.failed) == (1, 58, 1)
        letters = await ledger.query('SELECT state, attempt, closed_at IS NULL FROM dead_letters ORDER BY "offset"')
        assert [tuple(row) for row in letters] == [("open", 2, True), ("redriven", 1, False)]

    async def test_of_discarded_dead_letters_are_not_retried(self, applied, ledger, ops, replaying, poison):
        poison |= {"e10"}
        await applied(*numbered(60))
        await ledger.query("UPDATE dead_letters SET state = 'discarded'")
        poison.clear()
        async with replaying():
            done = await ops.ended(await ops.run())
        assert (done.matched, done.applied) == (59, 0)
        assert "e10" not in await ledger.ids()

    async def test_are_redriven_without_other_events_after_the_cause_is_removed(
        self, applied, ledger, ops, replaying, poison
    ):
        poison |= {f"e{n}" for n in range(0, 200, 9)}
        await applied(*numbered(200))
        await ops.lose(["e1"])
        letters = await ledger.query('SELECT topic, partition, "offset" FROM dead_letters')
        assert len(letters) == len(poison)
        left = poison & {"e18"}
        replay = await ops.redrive([tuple(row) for row in letters])
        poison.intersection_update(left)
        async with replaying():
            done = await ops.ended(replay)
        assert (done.kind, done.state, done.matched, done.applied, done.failed) == ("redrive", "done", 23, 22, 1)
        assert set(await ledger.ids()) == {f"e{n}" for n in range(200)} - {"e1", "e18"}
        states = await ledger.query("SELECT state, attempt, count(*) FROM dead_letters GROUP BY 1, 2 ORDER BY 1")
        assert [tuple(row) for row in states] == [("open", 2, 1), ("redriven", 1, 22)]

    async def test_far_apart_are_redriven_by_seeking(self, applied, ledger, ops, replaying, poison, monkeypatch):
        monkeypatch.setattr(run_module, "SEEK_FROM", 10)
        poison |= {"e0", "e597"}
        await applied(*numbered(600))
        poison.clear()
        letters = await ledger.query('SELECT topic, partition, "offset" FROM dead_letters')
        async with replaying():
            done = await ops.ended(await ops.redrive([tuple(row) for row in letters]))
        assert (done.state, done.matched, done.applied) == ("done", 2, 2)

    async def test_of_unreadable_records_are_counted(self, applied, log, ledger, ops, replaying):
        garbage = replace(encode(feedback(id="garbage")), value=b"not even JSON")
        await applied(garbage, *numbered(3), spread=False)
        replay = await ops.run()
        assert replay.summary["dead_letters"] == 1
        async with replaying():
            done = await ops.ended(replay)
        assert (done.matched, done.already_applied, done.failed) == (4, 3, 1)


class TestControl:
    """Pausing, resuming and aborting; one replay at a time."""

    @pytest.fixture
    async def slow(self, applied, ops):
        """A replay that would take a minute."""
        await applied(*numbered(120))
        await ops.lose(f"e{n}" for n in range(120))
        return await ops.run(rate=2)

    async def test_a_resumed_replay_continues_where_it_was_paused(self, slow, ledger, ops, replaying):
        async with replaying():
            await eventually(lambda: _passed(ops, slow, 2))
            await ops.change(slow, "pause")
            before = await ledger.ids()
            assert before
            await ops.change(slow, "resume", rate=1000)
            done = await ops.ended(slow)
        assert (await ledger.ids())[: len(before)] == before
        assert (done.state, done.applied, done.already_applied) == ("done", 120, 0)

    async def test_after_a_pause_nothing_is_applied(self, slow, ledger, ops, replaying):
        """The command waits for the batch in progress; a later batch fails at the fence."""
        async with replaying():
            await eventually(lambda: _passed(ops, slow, 2))
            await ops.change(slow, "pause")
            standing = (await ops.now(slow)).passed
            async with transaction(ledger.sessions) as session:
                assert (await replays.running(session, CONSUMER)) is None
            [now] = await ledger.query("SELECT clock_timestamp() AS at")
            await eventually(lambda: _later(ledger, now.at, 1.0))
        assert (await ops.now(slow)).passed == standing

    async def test_an_aborted_replay_keeps_the_events_it_applied(self, slow, ledger, ops, replaying):
        async with replaying():
            await eventually(lambda: _passed(ops, slow, 2))
            aborted = await ops.change(slow, "abort")
        assert aborted.state == "aborted"
        assert len(await ledger.ids()) == aborted.applied < 120
        with pytest.raises(UsageError, match="is aborted: resume is for one that is paused or failed"):
            await ops.change(slow, "resume")

    async def test_a_second_replay_of_the_same_consumer_is_refused(self, slow, ops):
        second = await ops.plan()
        with pytest.raises(UsageError, match="another replay of ledger-svc is under way"):
            await ops.change(second, "run")
        await ops.change(slow, "abort")
        assert (await ops.change(second, "run")).state == "running"

    async def test_of_two_workers_only_one_runs_the_replay(self, applied, ledger, ops, replaying):
        await applied(*numbered(300))
        await ops.lose(f"e{n}" for n in range(300))
        async with replaying(), replaying():
            done = await ops.ended(await ops.run(rate=300))
        assert (done.state, done.applied, done.already_applied) == ("done", 300, 0)
        assert len(await ledger.ids()) == 300

    async def test_every_step_is_in_the_audit_trail_with_correct_sums(self, slow, ledger, ops, replaying):
        async with replaying():
            await eventually(lambda: _passed(ops, slow, 2))
            await ops.change(slow, "pause")
            await ops.change(slow, "resume", rate=1000)
            await ops.ended(slow)
        lines = await ledger.query("SELECT * FROM audit ORDER BY id")
        assert [(line.action, line.who) for line in lines] == [
            ("replay.plan", "ada"), ("replay.run", "ada"), ("replay.pause", "ada"), ("replay.resume", "ada"),
            ("replay.done", "ledger-svc worker"),
        ]  # fmt: skip
        assert {(line.subject, line.plan_id, line.plan_hash) for line in lines} == {(CONSUMER, slow.id, slow.plan_hash)}
        assert (lines[-1].matched, lines[-1].applied) == (120, 120)


async def _later(ledger, moment, seconds):
    [row] = await ledger.query("SELECT clock_timestamp() - :m > make_interval(secs => :s) AS l", m=moment, s=seconds)
    return row.l
