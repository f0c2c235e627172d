"""`touchpoint replay` and `touchpoint audit`, as an operator uses them."""

import asyncio
import json

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from touchpoint.base.errors import UsageError
from touchpoint.kafka import admin
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

TOPIC = "touchpoints.v1"
ALL = [word for partition in range(3) for word in ("--from", f"{TOPIC}/{partition}/0")]


@pytest.fixture
async def applied(log, ledger, consuming, replaying):
    """Thirty events that the live consumer has applied."""
    await log.append(*[feedback(id=f"e{n}", customer_id=f"c{n % 3}") for n in range(30)])
    async with consuming(), replaying():
        await eventually(lambda: _count(ledger, 30))
        await eventually(lambda: ledger.query("SELECT 1 FROM subscriptions"))


async def _count(ledger, count):
    return len(await ledger.ids()) == count


@pytest.fixture
async def lost(applied, ledger):
    """The events of one customer, deleted from the inbox and the ledger."""
    await ledger.query('DELETE FROM inbox WHERE "offset" % 3 = 1')
    await ledger.query("DELETE FROM ledger WHERE position % 3 = 1")


async def _plan(touchpoint, *options):
    return json.loads(await touchpoint("replay", "plan", "--consumer", "ledger-svc", "--json", *options))


async def test_deleted_events_are_planned_and_replayed_and_the_audit_trail_shows_it(
    lost, ledger, touchpoint, replaying
):
    output = await touchpoint("replay", "plan", "--consumer", "ledger-svc", "--from", "2h", "--customer", "c1")
    assert "10 missing events would be applied" in output
    plan = output.split()[1]
    async with replaying():
        output = await touchpoint("replay", "run", plan, "--reason", "lost afternoon")
    assert f"repair {plan} of ledger-svc: done, 100 %" in output
    assert "10 matched = 10 applied + 0 already applied + 0 failed + 0 erased" in output
    assert len(await ledger.ids()) == 30
    assert plan in await touchpoint("replay", "list")
    lines = json.loads(await touchpoint("audit", "--json"))
    assert [(line["action"], line["applied"]) for line in lines] == [
        ("replay.done", 10), ("replay.run", 0), ("replay.plan", 0)
    ]  # fmt: skip
    assert "lost afternoon" in await touchpoint("audit")


async def test_a_window_before_all_records_has_nothing_to_apply(applied, touchpoint):
    plan = await _plan(touchpoint, "--from", "2020-01-01", "--to", "2020-01-02")
    assert (plan["length"], plan["summary"]["matching"]) == (0, 0)


@pytest.mark.parametrize(
    ("whose", "output"),
    [(["--customer", "nobody"], "Check the spelling"), ([], "Nothing is missing here: there is nothing to run")],
)
async def test_a_plan_with_nothing_to_apply_says_so_and_offers_no_run(applied, touchpoint, whose, output):
    planned = await touchpoint("replay", "plan", "--consumer", "ledger-svc", *ALL, *whose)
    assert output in planned
    assert "replay run" not in planned


async def test_equal_plans_have_equal_hashes_and_others_do_not(applied, touchpoint):
    first, again, other = [await _plan(touchpoint, *options) for options in (ALL, ALL, [*ALL, "--to", f"{TOPIC}/0/29"])]
    assert first["plan_hash"] == again["plan_hash"] != other["plan_hash"]
    assert first["id"] != again["id"]


async def test_pause_resume_and_abort_print_the_replays_state(lost, touchpoint):
    plan = (await _plan(touchpoint, *ALL))["id"]
    assert "running" in await touchpoint("replay", "run", plan, "--reason", "a test", "--detach")
    assert "paused" in await touchpoint("replay", "pause", plan, "--reason", "a test")
    assert "paused" in await touchpoint("replay", "status")
    resumed = json.loads(await touchpoint("replay", "resume", plan, "--reason", "a test", "--rate", "7", "--json"))
    assert (resumed["state"], resumed["rate"], resumed["max_errors"]) == ("running", 7, 100)
    assert "aborted" in await touchpoint("replay", "abort", plan, "--reason", "a test")
    with pytest.raises(UsageError, match="is aborted: pause is for one that is running"):
        await touchpoint("replay", "pause", plan, "--reason", "a test")


async def test_the_exit_code_is_1_if_events_failed(lost, ledger, touchpoint, replaying):
    def refuse(events):
        if any(event.meta.id == "e1" for event in events):
            raise ValueError

    ledger.before = refuse
    plan = (await _plan(touchpoint, *ALL))["id"]
    async with replaying():
        output = await touchpoint("replay", "run", plan, "--reason", "a test", code=1)
    assert "30 matched = 9 applied + 20 already applied + 1 failed + 0 erased" in output
    assert "touchpoint dlq stats --consumer ledger-svc" in output
    assert "ended, but 1 of 30 events FAILED" in output
    assert "done" not in output


async def test_the_reported_speed_does_not_count_pauses(lost, ledger, touchpoint):
    """The reported speed, and with it the remaining time, counts only the seconds in which the replay ran."""
    plan = (await _plan(touchpoint, *ALL))["id"]
    await touchpoint("replay", "run", plan, "--reason", "a test", "--detach")
    await touchpoint("replay", "pause", plan, "--reason", "a test")
    await ledger.query("ALTER TABLE audit DISABLE TRIGGER append_only")
    await ledger.query("UPDATE audit SET at = at - interval '1 hour' WHERE action = 'replay.run'")
    await ledger.query("UPDATE audit SET at = at - interval '3590 s' WHERE action = 'replay.pause'")
    await ledger.query("UPDATE replays SET started_at = started_at - interval '1 hour'")
    await ledger.query('UPDATE replay_checkpoints SET next = "end"')
    paused = json.loads(await touchpoint("replay", "status", plan, "--json"))
    resumed = json.loads(await touchpoint("replay", "resume", plan, "--reason", "a test", "--json"))
    for replay in (paused, resumed):
        assert replay["passed"] == 30
        assert 1.5 < replay["records_per_second"] <= 3.1  # 30 records in about ten seconds, not in an hour


async def test_the_output_of_replay_and_audit_fits_into_80_columns(lost, touchpoint):
    output = [await touchpoint("replay", "plan", "--consumer", "ledger-svc", "--from", "2h")]
    plan = output[0].split()[1]
    why = "a reason that is rather long, as people write them when they are tired and it is three in the morning"
    output.append(await touchpoint("replay", "run", plan, "--reason", why, "--detach"))
    output.append(await touchpoint("replay", "pause", plan, "--reason", why))
    assert f'to resume: touchpoint replay resume {plan} --reason "…"' in output[-1]
    output += [await touchpoint("replay", "list"), await touchpoint("audit")]
    assert max(len(line) for each in output for line in each.splitlines()) <= 80, output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--consumer", "nobody", "--from", "2h"], "no consumer nobody here"),
        (["--consumer", "ledger-svc", "--from", "2h", "--type", "no.such"], "does not handle no.such: it handles"),
        (["--consumer", "ledger-svc", "--from", "other.v1/0/0"], "does not read other.v1/0: it reads touchpoints.v1"),
        (["--consumer", "ledger-svc", "--from", f"{TOPIC}/0/31"], "the log ends at 30, before 31"),
        (["--consumer", "ledger-svc", "--from", "1h", "--to", "2h"], "the window ends at .*, not after its beginning"),
        (
            ["--consumer", "ledger-svc", "--from", f"{TOPIC}/0/9", "--to", f"{TOPIC}/0/8"],
            "ends at .*/8, before it begins",
        ),
        (["--consumer", "ledger-svc", "--from", "2199-01-01"], "begins at 2199-01-01T00:00:00Z: that is in the future"),
        (["--consumer", "ledger-svc", "--from", "2h", "--customer", ""], "may be left out, but not be empty"),
    ],
)
async def test_an_impossible_plan_is_refused_with_the_reason(applied, touchpoint, options, why):
    with pytest.raises(UsageError, match=why):
        await touchpoint("replay", "plan", *options)


async def test_a_start_deleted_by_retention_is_refused_and_the_rest_can_be_planned(applied, kafka, touchpoint):
    async with admin.connected(kafka) as client:
        await client.delete_records({TopicPartition(kafka.topic_prefix + TOPIC, 0): RecordsToDelete(before_offset=12)})
    with pytest.raises(UsageError, match=r"records 0 to 11 are gone"):
        await _plan(touchpoint, *ALL)
    with pytest.raises(UsageError, match=r"records before 12 are gone.*--from touchpoints.v1/0/12"):
        await _plan(touchpoint, "--from", "2h")
    assert (await _plan(touchpoint, "--from", "2h", "--from", f"{TOPIC}/0/12"))["length"] == 18


async def test_records_deleted_by_retention_after_the_plan_fail_the_replay(lost, kafka, touchpoint, replaying):
    plan = (await _plan(touchpoint, *ALL))["id"]
    async with admin.connected(kafka) as client:
        await client.delete_records({TopicPartition(kafka.topic_prefix + TOPIC, 0): RecordsToDelete(before_offset=12)})
    async with replaying():
        output = await touchpoint("replay", "run", plan, "--reason", "a test", code=1)
    assert "failed" in output
    assert "records 0 to 11 are gone" in output


async def test_a_start_before_the_inboxs_first_offset_is_refused(applied, ledger, touchpoint):
    await ledger.query("UPDATE offsets SET inbox_from = 5 WHERE partition = 0")
    with pytest.raises(UsageError, match="before offset 5 is no longer known"):
        await _plan(touchpoint, *ALL)


async def test_a_replay_cannot_be_planned_before_the_worker_has_run_once(applied, ledger, touchpoint):
    await ledger.query("DELETE FROM subscriptions")
    with pytest.raises(UsageError, match="start its worker once"):
        await _plan(touchpoint, *ALL)


async def test_an_unknown_plan_is_refused_by_its_id(applied, touchpoint):
    with pytest.raises(UsageError, match="no replay id begins with 1234"):
        await touchpoint("replay", "run", "1234", "--reason", "a test")


async def test_run_says_so_if_no_worker_takes_the_replay(lost, touchpoint, ledger, monkeypatch):
    monkeypatch.setattr("touchpoint.operators.replays.command.PATIENCE_SECONDS", 0)
    plan = (await _plan(touchpoint, *ALL))["id"]
    running = asyncio.create_task(touchpoint("replay", "run", plan, "--reason", "a test", code=1))
    await eventually(lambda: ledger.query("SELECT 1 FROM replays WHERE state = 'running'"))
    await ledger.query("SELECT pg_sleep(1.2)")
    await touchpoint("replay", "abort", plan, "--reason", "a test")
    assert "does ledger-svc's worker run" in await running
