"""`touchpoint consumer`: an operator's view of consumers, and a hand on them."""

import json
from functools import partial

import pytest

from touchpoint.errors import UsageError
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback


@pytest.fixture
def command(touchpoint):
    return partial(touchpoint, "consumer")


async def test_a_consumer_is_listed_with_its_state_and_open_dead_letters(log, ledger, consuming, command):
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
        [found] = json.loads(await command("list", "--json"))
    assert (found["consumer"], found["state"], found["dead_letters"]) == ("ledger-svc", "running", 0)
    assert "ledger-svc" in await command("list")


async def test_pausing_holds_the_consumer_and_resuming_lets_it_go_on(log, ledger, consuming, command):
    async with consuming() as consumer:
        await log.append(feedback(id="before"))
        await eventually(ledger.ids)
        said = await command("pause", "ledger-svc", "--reason", "looking into it")
        assert said == "ledger-svc: running → paused (looking into it)\n"
        await eventually(consumer.check)
        await log.append(feedback(id="after"))
        assert await ledger.ids() == ["before"]
        await command("resume", "ledger-svc", "--reason", "found it")
        await eventually(lambda: _ids(ledger, ["before", "after"]))


async def test_a_consumer_that_is_not_there_is_named(ledger, command):
    with pytest.raises(UsageError, match="no consumer nobody here"):
        await command("pause", "nobody", "--reason", "why not")


async def _ids(ledger, expected):
    return await ledger.ids() == expected
