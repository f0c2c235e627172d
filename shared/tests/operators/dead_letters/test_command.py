"""`touchpoint dlq`: causes, list and details of dead letters; discarding and redriving them, with an audit trail."""

import json
from functools import partial

import pytest
from msgspec.structs import replace

from touchpoint.base.errors import PermanentError, UsageError
from touchpoint.contracts.record import encode
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

PLACE = "touchpoints.v1/0/"


@pytest.fixture
def dlq(touchpoint):
    return partial(touchpoint, "dlq")


@pytest.fixture
async def failed(log, ledger, consuming):
    """Three dead letters of two causes: the handler refuses two events of customer C-1, and one has broken data."""

    def refuse(events):
        if any(event.meta.id.startswith("bad") for event in events):
            raise PermanentError("no such segment")

    ledger.before = refuse
    broken = replace(encode(feedback(id="broken", customer_id="C-2")), value=b'{"customer_id": "C-2", "kind": 7}')
    await log.append(
        feedback(id="fine-0", customer_id="C-1"),
        feedback(id="bad-1", customer_id="C-1"),
        broken,
        feedback(id="bad-3", customer_id="C-1"),
        feedback(id="fine-4", customer_id="C-1"),
        feedback(id="other-5", customer_id="C-9"),
    )
    async with consuming():
        await eventually(partial(_at, ledger, 6))


async def _at(ledger, offset):
    return (await ledger.next()).get(0) == offset


async def test_causes_are_counted_with_their_customers_and_an_example(failed, dlq):
    handled, validated = json.loads(await dlq("stats", "--json"))
    assert (handled["stage"], handled["error"], handled["reason"]) == ("handle", "PermanentError", "no such segment")
    assert (handled["open"], handled["customers"], handled["example"]) == (2, 1, PLACE + "3")
    assert (validated["stage"], validated["open"], validated["example"]) == ("validate", 1, PLACE + "2")
    assert "no such segment" in await dlq("stats")


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        ((), [1, 2, 3]),
        (("--customer", "C-2"), [2]),
        (("--consumer", "ledger-svc", "--type", "feedback.submitted", "--tenant", "acme"), [1, 2, 3]),
        (("--consumer", "another-svc"), []),
        (("--limit", "2"), [1, 2]),
        (("--since", "1h"), [1, 2, 3]),
        (("--until", "1h"), []),
        (("--state", "discarded"), []),
    ],
)
async def test_dead_letters_are_listed_by_filters(failed, dlq, options, offsets):
    assert [each["offset"] for each in json.loads(await dlq("list", *options, "--json"))] == offsets


async def test_a_dead_letter_is_shown_with_its_error_its_data_and_its_customers_other_events(failed, dlq):
    shown = await dlq("show", PLACE + "3")
    assert "handle: PermanentError: no such segment" in shown
    assert "bad-3" in shown
    neighbours = [line.split()[-1] for line in shown.splitlines() if "feedback.submitted " in line]
    assert neighbours == ["fine-0", "bad-1", "bad-3", "fine-4"]
    assert "\n    touchpoint dlq redrive --fingerprint " in shown
    [letter] = json.loads(await dlq("show", PLACE + "3", "--json"))["dead_letters"]
    assert letter["attempt"] == 1


async def test_escape_sequences_in_a_record_do_not_reach_the_terminal(log, ledger, consuming, dlq):
    headers = [("ce_type", b"feedback.submitted"), ("ce_id", b"\x1b[2Jgone [red]")]
    await log.append(replace(encode(feedback()), headers=headers, value=b"\x1b]0;title\x07"))
    async with consuming():
        await eventually(partial(_at, ledger, 1))
    for command in (("stats",), ("list",), ("show", PLACE + "0")):
        assert "\x1b" not in await dlq(*command)


@pytest.mark.parametrize("place", ["touchpoints.v1/0", "touchpoints.v1/a/b", "3"])
async def test_an_invalid_offset_is_refused_with_an_example(dlq, place):
    with pytest.raises(UsageError, match=r"touchpoints\.v1/3/1042"):
        await dlq("show", place)


async def test_an_event_without_a_dead_letter_can_be_shown(failed, dlq):
    shown = await dlq("show", PLACE + "0")
    assert shown.startswith("No consumer has a dead letter at this offset.")
    assert "fine-0" in shown


async def test_an_offset_beyond_the_log_is_refused(failed, dlq):
    with pytest.raises(UsageError, match=r"touchpoints\.v1/0 has no record at offset 6"):
        await dlq("show", PLACE + "6")


async def test_discard_is_a_dry_run_without_execute_and_leaves_an_audit_trail(failed, ledger, dlq):
    [cause, _] = json.loads(await dlq("stats", "--json"))
    chosen = ("--fingerprint", cause["fingerprint"])
    assert "2 would be discarded. Nothing was changed" in await dlq("discard", *chosen)
    with pytest.raises(UsageError, match="--reason"):
        await dlq("discard", *chosen, "--execute")
    assert len(json.loads(await dlq("list", "--json"))) == 3

    assert await dlq("discard", *chosen, "--execute", "--reason", "test data") == "2 discarded.\n"

    assert [each["offset"] for each in json.loads(await dlq("list", "--json"))] == [2]
    gone = json.loads(await dlq("list", "--state", "discarded", "--json"))
    assert {each["closed_reason"] for each in gone} == {"test data"}
    [line] = await ledger.query("SELECT action, subject, reason, details FROM audit")
    assert (line.action, line.subject, line.reason) == ("dead_letters.discarded", "ledger-svc", "test data")
    assert line.details == {"discarded": 2, "fingerprints": [cause["fingerprint"]]}


async def test_discarding_again_finds_nothing(failed, dlq):
    everything = ("discard", "--execute", "--reason", "test data")
    assert await dlq(*everything) == "3 discarded.\n"
    assert await dlq(*everything) == "0 discarded.\n"


def outcome(output):
    """The JSON in the last line of the output, below the progress."""
    return json.loads(output.splitlines()[-1])


async def test_redrive_is_a_dry_run_without_execute_and_applies_only_the_dead_letters(failed, ledger, replaying, dlq):
    chosen = ("redrive", "--customer", "C-1")
    assert "2 would be redriven. Nothing was changed" in await dlq(*chosen)
    with pytest.raises(UsageError, match="--reason"):
        await dlq(*chosen, "--execute")
    ledger.before = lambda events: None

    async with replaying():
        done = outcome(await dlq(*chosen, "--execute", "--reason", "mended", "--json"))

    assert (done["state"], done["matched"], done["applied"], done["failed"]) == ("done", 2, 2, 0)
    assert (await ledger.ids())[-2:] == ["bad-1", "bad-3"]
    assert [each["offset"] for each in json.loads(await dlq("list", "--json"))] == [2]
    assert [each["offset"] for each in json.loads(await dlq("list", "--state", "redriven", "--json"))] == [1, 3]
    actions = [row.action for row in await ledger.query("SELECT action FROM audit ORDER BY id")]
    assert actions == ["replay.plan", "replay.run", "replay.done"]


async def test_a_dead_letter_that_fails_again_stays_open_with_one_more_attempt(failed, ledger, replaying, dlq):
    async with replaying():
        done = outcome(await dlq("redrive", "--execute", "--reason", "perhaps", "--json", code=1))

    assert (done["state"], done["matched"], done["applied"], done["failed"]) == ("done", 3, 0, 3)
    letters = json.loads(await dlq("list", "--json"))
    assert [(each["offset"], each["attempt"]) for each in letters] == [(1, 2), (2, 2), (3, 2)]


async def test_redriving_without_matching_dead_letters_changes_nothing(log, ledger, dlq):
    assert "no open dead letter matches" in await dlq("redrive", "--execute", "--reason", "why not")
    assert await dlq("redrive", "--execute", "--reason", "why not", "--json") == ""


async def test_the_output_of_dlq_fits_into_80_columns(failed, dlq):
    for arguments in (["stats"], ["list"], ["show", PLACE + "2"], ["redrive"], ["discard"]):
        output = await dlq(*arguments)
        assert max(map(len, output.splitlines())) <= 80, output
    assert f"{PLACE + '3':<24}  2" in await dlq("list")
    assert "open, 1 attempt\n  ledger-svc, feedback.submitted, acme / C-1, cause " in await dlq("list")
    assert f"  example: touchpoint dlq show {PLACE}2\n" in await dlq("stats")
