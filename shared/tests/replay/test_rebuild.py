"""Rebuild and swap against real Kafka and PostgreSQL: wrong rows are corrected as events arrive, or nothing changes."""

import asyncio
import json
import random

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from touchpoint.base.errors import UsageError
from touchpoint.db import erasures
from touchpoint.db.engine import raw_connection, transaction
from touchpoint.db.shadow import Shadow
from touchpoint.kafka import admin
from touchpoint.replay import rebuild as rebuild_module
from touchpoint.replay import run as run_module
from touchpoint.replay.worker import Replayer
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.verify.run import verify

TOPIC = "touchpoints.v1"
CONSUMER = "ledger-svc"
WHY = ("--reason", "a test")
WHOLE = "SELECT event_id, type, topic, partition, position FROM ledger ORDER BY event_id"
LOOSE_ENDS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'"


def numbered(count, first=0):
    """Events of three customers, each with a partition of its own: e7 is the third event in partition 1."""
    return [feedback(id=f"e{n}", customer_id=f"c{n % 3}") for n in range(first, first + count)]


async def append(log, events):
    for partition in range(3):
        await log.append(*[each for each in events if int(each.meta.id[1:]) % 3 == partition], partition=partition)


@pytest.fixture
def applied(log, ledger, consuming, replaying):
    """A function that writes events to three partitions and waits until the live consumer has applied them."""

    async def write(*events):
        before = sum((await ledger.next()).values())
        await append(log, events)
        async with consuming(), replaying():
            await eventually(lambda: _read(ledger, before + len(events)), 30)
            await eventually(lambda: ledger.query("SELECT 1 FROM projections"))

    return write


async def _read(ledger, count):
    return sum((await ledger.next()).values()) == count


@pytest.fixture
def rebuild(touchpoint):
    """A function that runs a rebuild and returns its final state."""

    async def run(*options, code=0):
        command = ("replay", "rebuild", "--consumer", CONSUMER, *WHY, "--json", *options)
        return _last_json(await touchpoint(*command, code=code))

    return run


@pytest.fixture
def swap(touchpoint):
    """A function that swaps a rebuild in and returns its final state."""

    async def run(built, code=0):
        return _last_json(await touchpoint("replay", "swap", built["id"], *WHY, "--json", code=code))

    return run


def _last_json(output):
    """The JSON in the last line of a command's output; the lines before are logs of the worker in this process."""
    return json.loads(output.splitlines()[-1])


@pytest.fixture
def is_clean(ledger, kafka):
    async def check():
        return [(each.fault, each.where) for each in (await verify(ledger.subject, ledger.dsn, kafka)).findings]

    return check


def _differences(replay):
    return {(each["fault"], each["where"]): each["count"] for each in replay["summary"]["compared"]["findings"]}


WRONG = (
    "UPDATE ledger SET type = 'wrong' WHERE event_id = 'e3'",
    "DELETE FROM ledger WHERE event_id IN ('e4', 'e5')",
    "INSERT INTO ledger (event_id, type, position) SELECT event_id, type, position FROM ledger WHERE event_id = 'e6'",
    "INSERT INTO ledger (event_id, type, position) VALUES ('nobody', 'knows', 1)",
)


async def test_wrong_rows_are_listed_and_corrected_by_the_swap(applied, ledger, touchpoint, replaying, is_clean):
    await applied(*numbered(60))
    right = await ledger.query(WHOLE)
    for statement in WRONG:
        await ledger.query(statement)
    wrong = await ledger.query(WHOLE)
    async with replaying():
        output = await touchpoint("replay", "rebuild", "--consumer", CONSUMER, *WHY)
        assert "60 matched = 60 applied + 0 already applied + 0 failed + 0 erased" in output
        assert "compared in one snapshot: 60 of inbox, 60 of ledger; 5 differ" in output
        for line in ("1 changed in ledger", "2 missing in ledger", "1 applied twice in ledger", "event_id=nobody"):
            assert line in output
        plan = output.split("touchpoint replay swap ")[1].split()[0]
        assert await ledger.query(WHOLE) == wrong
        output = await touchpoint("replay", "swap", plan, *WHY)
    assert f"rebuild {plan} of ledger-svc: done, 100 %" in output
    assert "swapped: writers waited" in output
    assert await ledger.query(WHOLE) == right
    assert await ledger.query(LOOSE_ENDS) == []
    assert await is_clean() == []


async def test_a_rebuild_of_correct_tables_finds_no_difference(applied, rebuild, replaying):
    await applied(*numbered(30))
    async with replaying():
        built = await rebuild()
    assert (built["state"], _differences(built)) == ("built", {})
    assert built["summary"]["compared"]["rows"] == {"ledger": 30, "inbox": 30}


async def test_an_event_that_was_never_applied_is_found_and_applied(applied, ledger, rebuild, replaying, is_clean):
    await applied(*numbered(30))
    await ledger.query("DELETE FROM ledger WHERE event_id = 'e7'")
    await ledger.query('DELETE FROM inbox WHERE (partition, "offset") = (1, 2)')
    async with replaying():
        done = await rebuild("--swap")
    assert (done["state"], _differences(done)) == ("done", {("missing", "ledger"): 1, ("missing", "inbox"): 1})
    assert len(await ledger.ids()) == 30
    assert await is_clean() == []


async def test_a_swap_under_load_loses_no_event_and_readers_see_old_or_new_tables(
    applied, log, ledger, rebuild, replaying, consuming, is_clean, monkeypatch
):
    """The reader's and the consumer's prepared statements refer to the old tables."""
    monkeypatch.setattr(run_module, "BATCH_RECORDS", 50)
    await applied(*numbered(300))
    await ledger.query("INSERT INTO ledger (event_id, type, position) VALUES ('nobody', 'knows', 1)")
    stop, seen, written = asyncio.Event(), [], [300]

    async def read():
        connection = await asyncpg.connect(ledger.dsn)
        while not stop.is_set():
            query = "SELECT count(*), count(*) FILTER (WHERE event_id = 'nobody') FROM ledger"
            seen.append(tuple(await connection.fetchrow(query)))
        await connection.close()

    async def write():
        while not stop.is_set():
            await append(log, numbered(5, written[0]))
            written[0] += 5
            await eventually(lambda: _read(ledger, written[0]))

    async with consuming(), replaying():
        at_work = [asyncio.create_task(read()), asyncio.create_task(write())]
        done = await rebuild("--swap")
        swapped = written[0]
        await eventually(lambda: written[0] > swapped + 50)
        stop.set()
        await asyncio.gather(*at_work)
    assert done["state"] == "done"
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(written[0]))
    assert [wrong for _, wrong in seen] == sorted((wrong for _, wrong in seen), reverse=True)
    rows = [count - wrong for count, wrong in seen]
    assert rows == sorted(rows)
    assert {wrong for _, wrong in seen} == {0, 1}
    assert await is_clean() == []


async def test_a_rebuild_stopped_at_random_points_has_the_same_result(applied, ledger, kafka, touchpoint, monkeypatch):
    """The worker is cancelled at any point, like a kill: uncommitted work is lost, committed work counts."""
    monkeypatch.setattr(run_module, "BATCH_RECORDS", 20)
    await applied(*numbered(600))
    right, chance, stops = await ledger.query(WHOLE), random.Random(5), 0
    await ledger.query("UPDATE ledger SET type = 'wrong' WHERE position % 5 = 0")
    await touchpoint("replay", "rebuild", "--consumer", CONSUMER, *WHY, "--swap", "--detach")
    while (await _now(touchpoint))["state"] == "running":
        replayer = Replayer(CONSUMER, ledger.handlers, kafka, ledger.sessions, ledger.subject)
        worker = asyncio.create_task(replayer.run(asyncio.Event()))
        further = (await _now(touchpoint))["passed"] + chance.randrange(1, 60)
        await eventually(lambda further=further: _passed(touchpoint, further))
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        stops += 1
    done = await _now(touchpoint)
    assert stops > 5
    assert (done["state"], done["applied"]) == ("done", 600)
    assert await ledger.query(WHOLE) == right


async def _now(touchpoint):
    return _last_json(await touchpoint("replay", "status", "--json"))


async def _passed(touchpoint, offsets):
    now = await _now(touchpoint)
    return now["passed"] >= min(offsets, now["length"]) or now["state"] != "running"


async def test_a_failed_swap_changes_nothing_and_can_be_resumed(
    applied, ledger, rebuild, touchpoint, replaying, monkeypatch
):
    await applied(*numbered(30))
    await ledger.query("DELETE FROM ledger WHERE event_id = 'e7'")
    whole = Shadow.replace_live

    async def break_off(shadow, raw):
        await whole(shadow, raw)
        raise RuntimeError

    monkeypatch.setattr(Shadow, "replace_live", break_off)
    async with replaying():
        failed = await rebuild("--swap", code=1)
        assert (failed["state"], len(await ledger.ids())) == ("failed", 29)
        monkeypatch.setattr(Shadow, "replace_live", whole)
        output = await touchpoint("replay", "resume", failed["id"], *WHY)
        assert "running" in output
        await touchpoint("replay", "status", "--follow")
    assert len(await ledger.ids()) == 30


async def test_an_aborted_rebuild_drops_its_tables(applied, ledger, rebuild, touchpoint, replaying):
    await applied(*numbered(30))
    async with replaying():
        built = await rebuild()
        assert await ledger.query(LOOSE_ENDS)
        await touchpoint("replay", "abort", built["id"], *WHY)
        await eventually(lambda: _none(ledger, LOOSE_ENDS))
    assert len(await ledger.ids()) == 30


async def _none(ledger, query):
    return not await ledger.query(query)


async def test_no_other_replay_may_run_until_a_rebuild_is_swapped_or_aborted(
    applied, ledger, rebuild, touchpoint, replaying
):
    await applied(*numbered(30))
    plan = _last_json(await touchpoint("replay", "plan", "--consumer", CONSUMER, "--from", "2h", "--json"))
    async with replaying():
        built = await rebuild()
    for state in ("built", "failed"):
        await ledger.query("UPDATE replays SET state = :state WHERE kind = 'rebuild'", state=state)
        with pytest.raises(UsageError, match="another replay of ledger-svc is under way"):
            await touchpoint("replay", "run", plan["id"], *WHY)
    await touchpoint("replay", "abort", built["id"], *WHY)
    assert "running" in await touchpoint("replay", "run", plan["id"], *WHY, "--detach")


class TestLeftOut:
    """Events that a rebuild leaves out: dead letters, erased customers', and the second event of an id."""

    async def test_dead_letters_stay_dead_letters(self, applied, ledger, rebuild, replaying, poison, is_clean):
        poison |= {"e10", "e20"}
        await applied(*numbered(30))
        await ledger.query("DELETE FROM outbox")
        await ledger.query("UPDATE dead_letters SET state = 'discarded' WHERE \"offset\" = 3")
        letters = await ledger.query("SELECT * FROM dead_letters ORDER BY 1, 2, 3, 4")
        poison.clear()
        async with replaying():
            done = await rebuild("--swap")
        assert (done["matched"], done["applied"], _differences(done)) == (28, 28, {})
        assert done["summary"]["compared"]["dead_letters_left_out"] == 2
        assert await ledger.query("SELECT * FROM dead_letters ORDER BY 1, 2, 3, 4") == letters

    async def test_an_event_that_handlers_now_refuse_becomes_a_dead_letter_at_the_swap(
        self, applied, ledger, rebuild, swap, replaying, poison
    ):
        await applied(*numbered(30))
        poison |= {"e10"}
        async with replaying():
            built = await rebuild(code=1)
            assert (built["state"], built["applied"], built["failed"]) == ("built", 29, 1)
            assert _differences(built)["refused", TOPIC] == 1
            assert await _none(ledger, "SELECT 1 FROM dead_letters")
            await swap(built, code=1)
        assert "e10" not in await ledger.ids()
        letters = await ledger.query('SELECT partition, "offset", state FROM dead_letters')
        assert [tuple(row) for row in letters] == [(1, 3, "open")]
        assert [row.topic for row in await ledger.query("SELECT topic FROM outbox")] == [f"{TOPIC}.{CONSUMER}.dlq"]

    async def test_events_of_an_erased_customer_are_left_out(self, applied, ledger, rebuild, replaying, is_clean):
        await applied(*numbered(70))
        await _erase(ledger, "c2")
        async with replaying():
            done = await rebuild("--swap")
        assert (done["state"], done["applied"], done["erased"]) == ("done", 47, 23)
        assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(70) if n % 3 != 2)
        assert await is_clean() == []

    async def test_a_customer_erased_during_a_rebuild_fails_the_swap(self, applied, ledger, rebuild, swap, replaying):
        await applied(*numbered(70))
        async with replaying():
            built = await rebuild()
            await _erase(ledger, "c2")
            failed = await swap(built, code=1)
        assert failed["state"] == "failed"
        assert "a customer was erased meanwhile" in failed["error"]
        assert len(await ledger.ids()) == 70

    async def test_of_two_payloads_with_one_id_the_applied_one_is_kept(
        self, log, ledger, rebuild, consuming, replaying
    ):
        """The two events are in different partitions, which a rebuild reads in any order."""
        for number in range(10):
            await log.append(feedback(id=f"e{number}", customer_id="c1"), partition=number % 2)
        async with consuming(), replaying():
            await eventually(lambda: _read(ledger, 10))
            for number in range(10):
                await log.append(feedback(id=f"e{number}", customer_id="c2"), partition=(number + 1) % 2)
            await eventually(lambda: _read(ledger, 20))
            before = await ledger.query(WHOLE)
            done = await rebuild("--swap")
        assert (done["state"], done["applied"], done["already_applied"], _differences(done)) == ("done", 10, 10, {})
        assert await ledger.query(WHOLE) == before
        assert len(await ledger.query("SELECT 1 FROM conflicts")) == 10


async def _erase(ledger, customer):
    async with transaction(ledger.sessions) as session:
        await erasures.note(await raw_connection(session), ("acme", customer), "ada", "asked for it")


async def _held(ledger):
    async with transaction(ledger.sessions) as session:
        return await Shadow("rebuild_12345678", ["ledger"]).held_by(await raw_connection(session))


class TestRefused:
    """Rebuilds that are refused with a one-line error, and change nothing."""

    async def test_a_log_that_has_lost_its_beginning(self, applied, kafka, rebuild, ledger):
        await applied(*numbered(30))
        async with admin.connected(kafka) as client:
            partition = TopicPartition(kafka.topic_prefix + TOPIC, 0)
            await client.delete_records({partition: RecordsToDelete(before_offset=4)})
        with pytest.raises(UsageError, match=r"touchpoints.v1/0: records 0 to 3 are gone"):
            await rebuild()
        assert await _none(ledger, "SELECT 1 FROM replays")

    async def test_a_consumer_whose_tables_depend_on_more_than_the_log(self, applied, ledger, rebuild):
        await applied(*numbered(3))
        await ledger.query("DELETE FROM projections")
        with pytest.raises(UsageError, match="cannot be rebuilt: it names no tables"):
            await rebuild()

    async def test_a_database_with_another_consumer(self, applied, ledger, rebuild):
        await applied(*numbered(3))
        await ledger.query("INSERT INTO offsets VALUES ('other-svc', 't', 0, 0, '')")
        with pytest.raises(UsageError, match="other-svc shares its database"):
            await rebuild()

    async def test_tables_with_dependent_objects(self, applied, ledger, rebuild, replaying):
        await applied(*numbered(3))
        await ledger.query("CREATE VIEW report AS SELECT count(*) FROM ledger")
        async with replaying():
            failed = await rebuild(code=1)
        assert "a swap would lose view report of ledger" in failed["error"]

    async def test_tables_locked_by_a_long_transaction(self, applied, ledger, rebuild, replaying, monkeypatch):
        monkeypatch.setattr(rebuild_module, "ATTEMPTS", 1)
        await applied(*numbered(3))
        async with replaying(), ledger.sessions() as reader:
            await (await raw_connection(reader)).fetch("SELECT * FROM ledger")
            failed = await rebuild("--swap", code=1)
        assert "a long transaction holds its tables" in failed["error"]

    async def test_a_long_transaction_on_the_tables_is_named_before_the_swap(self, applied, ledger):
        await applied(*numbered(3))
        async with ledger.sessions() as reader:
            await (await raw_connection(reader)).fetch("SELECT * FROM ledger")
            await eventually(lambda: _held(ledger))
            assert "ledger-svc (process" in await _held(ledger)
        assert await _held(ledger) is None

    async def test_an_outbox_that_the_relay_does_not_empty(self, applied, ledger, rebuild, replaying, monkeypatch):
        monkeypatch.setattr(rebuild_module, "ATTEMPTS", 1)
        await applied(*numbered(3))
        await ledger.query("INSERT INTO outbox (topic, key, headers) VALUES ('t', 'k', '')")
        async with replaying():
            failed = await rebuild("--swap", code=1)
        assert "emptying the outbox took more than 2 s" in failed["error"]
