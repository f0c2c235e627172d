"""`touchpoint consumer`: listing, pausing and resuming consumers."""

import json
import re
from functools import partial

import pytest

from touchpoint.base.errors import PermanentError, UsageError
from touchpoint.kafka.dead_letter import Limit
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback


@pytest.fixture
def command(touchpoint):
    return partial(touchpoint, "consumer")


async def test_a_consumer_is_listed_with_its_state_and_open_dead_letters(log, ledger, consuming, command):
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
        [listed] = json.loads(await command("list", "--json"))
    assert (listed["consumer"], listed["state"], listed["dead_letters"]) == ("ledger-svc", "running", 0)
    assert "ledger-svc" in await command("list")


async def test_a_consumer_without_a_live_process_is_listed_as_down_in_80_columns(log, ledger, consuming, command):
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
    assert "ledger-svc      DOWN: no process is alive\n  process       NONE RUNS" in await command("list")
    await ledger.query(
        "INSERT INTO processes (id, role, host, pid, reported_at) "
        "VALUES (gen_random_uuid(), 'consumer', 'box-7', 4711, now() - interval '35 s')"
    )
    output = await command("list")
    assert re.search(r"DOWN: no process is alive\n  process       DEAD: last report 3\d s ago  →", output)
    [listed] = json.loads(await command("list", "--json"))
    assert (listed["state"], listed["alive"]) == ("running", False)
    await ledger.query("UPDATE processes SET reported_at = now()")
    await ledger.set_state("halted", 'UndefinedColumnError: 42703 column "x" does not exist, at conftest:41 write_down')
    output = await command("list")
    assert "ledger-svc      HALTED: stopped by itself since " in output
    assert 'to resume     touchpoint consumer resume ledger-svc --reason "…"' in output
    assert max(map(len, output.splitlines())) <= 80


async def test_a_paused_consumer_applies_nothing_and_a_resumed_one_continues(log, ledger, consuming, command):
    async with consuming() as consumer:
        await log.append(feedback(id="before"))
        await eventually(ledger.ids)
        output = await command("pause", "ledger-svc", "--reason", "looking into it")
        assert output == "ledger-svc: running → paused (looking into it)\n"
        await eventually(consumer.check)
        await log.append(feedback(id="after"))
        assert await ledger.ids() == ["before"]
        await command("resume", "ledger-svc", "--reason", "found it")
        await eventually(lambda: _ids(ledger, ["before", "after"]))


async def test_a_consumer_resumed_with_skip_halts_again_after_that_many_dead_letters(log, ledger, consuming, command):
    def refuse(events):
        if any(event.meta.id.startswith("bad") for event in events):
            raise PermanentError("not today")

    ledger.before = refuse
    await log.append(*(feedback(id=f"bad-{n}") for n in range(8)), feedback(id="fine"))
    async with consuming(Limit(consecutive=3)):
        halted = await eventually(partial(_in_state, ledger, "halted"))
        assert "more than 3 dead letters in a row; the last one: touchpoints.v1/0/" in halted.reason
        await command("resume", "ledger-svc", "--reason", "give up on them", "--skip", "5")
        await eventually(lambda: _ids(ledger, ["fine"]))
        assert len(await ledger.query("SELECT 1 FROM dead_letters")) == 8
        await log.append(*(feedback(id=f"bad-{n}") for n in range(20, 30)))
        await eventually(partial(_in_state, ledger, "halted"))


async def test_pausing_and_resuming_is_in_the_audit_trail_with_the_operators_name(
    log, ledger, consuming, command, touchpoint
):
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
    await command("pause", "ledger-svc", "--reason", "looking into it")
    await command("resume", "ledger-svc", "--reason", "found it", "--skip", "3")
    lines = json.loads(await touchpoint("audit", "--json"))
    assert [(line["action"], line["subject"], line["reason"], line["details"]) for line in lines] == [
        ("consumer.resume", "ledger-svc", "found it", {"before": "paused", "may_skip": 3}),
        ("consumer.pause", "ledger-svc", "looking into it", {"before": "running", "may_skip": 0}),
    ]
    assert all("@" in line["who"] for line in lines)


async def test_an_unknown_consumer_is_refused_by_name(ledger, command):
    with pytest.raises(UsageError, match="no consumer nobody here"):
        await command("pause", "nobody", "--reason", "why not")


async def _in_state(ledger, state):
    current = await ledger.state()
    return current if current.state == state else None


async def _ids(ledger, expected):
    return await ledger.ids() == expected
