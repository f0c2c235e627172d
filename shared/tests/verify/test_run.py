"""The findings of `touchpoint verify` on log, inbox and dead letters, independent of the service."""

import re
from collections import Counter

import pytest

from touchpoint.base.errors import PermanentError, UsageError
from touchpoint.kafka.dead_letter import Limit
from touchpoint.operators.verify import command
from touchpoint.operators.verify.command import _extent, _plan
from touchpoint.testing import eventually
from touchpoint.testing.factories import NOON, TENANT, customer_updated, feedback
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify
from touchpoint.verify.subject import Subject


@pytest.fixture
def report(ledger, kafka):
    async def check(**options):
        return await verify(ledger.subject, ledger.dsn, kafka, **options)

    return check


@pytest.fixture
def applied(log, ledger, consuming):
    """A function that writes events to the log and waits until the consumer has read them all."""

    async def run(*events):
        await log.append(*events)

        async def all_read():
            return (await ledger.next()).get(0) == len(events)

        async with consuming(Limit(consecutive=1000)):
            await eventually(all_read)

    return run


async def test_redriven_events_are_counted_as_redriven(ledger, applied, report, touchpoint, replaying):
    def refuse(events):
        if any(event.meta.id.startswith("poison") for event in events):
            raise PermanentError("poison")

    ledger.before = refuse
    await applied(feedback(id="first"), feedback(id="poison-1"), feedback(id="poison-2"), feedback(id="last"))
    ledger.before = lambda events: None
    async with replaying():
        await touchpoint("dlq", "redrive", "--execute", "--reason", "mended")
    result = await report()
    assert result.outcomes == Counter(applied=2, redriven=2)
    assert (_counts(result), result.rows) == ({}, {"ledger": 4})


async def test_without_a_terminal_progress_is_printed_in_lines(ledger, applied, touchpoint, monkeypatch):
    monkeypatch.setattr(command, "installed", lambda _: ledger.subject)
    monkeypatch.setattr(command, "LINE_SECONDS", 0.001)
    await applied(feedback())
    assert re.search(r"verify: ledger-svc: (reading the log|comparing|checking)", await touchpoint("verify"))


def _counts(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}


async def test_every_record_is_counted_by_its_outcome(log, ledger, applied, report):
    def refuse(events):
        if any(event.meta.id == "poison" for event in events):
            raise PermanentError("poison")

    ledger.before = refuse
    once = feedback(id="once")
    again_but_different = feedback(id="once", text="Something else.")
    await applied(once, feedback(id="poison"), once, again_but_different, customer_updated(), feedback(id="last"))
    await log.append(feedback(), feedback())
    result = await report()
    assert _counts(result) == {}
    assert result.outcomes == Counter(applied=2, open=1, duplicate=1, conflict=1, ignored=1)
    assert (result.pending, result.rows) == (2, {"ledger": 2})


async def test_a_record_without_inbox_row_is_missing_and_named_with_offset_customer_and_time(ledger, applied, report):
    await applied(feedback(id="seen"), feedback(id="lost"))
    await ledger.query('DELETE FROM inbox WHERE "offset" = 1')
    await ledger.query("DELETE FROM ledger WHERE event_id = 'lost'")
    [finding] = (await report()).findings
    lost = {"type": "feedback.submitted", "source": "/tests", "id": "lost"}
    assert finding.fault is Fault.MISSING
    assert finding.examples == [{"topic": "touchpoints.v1", "partition": 0, "offset": 1} | lost]
    assert finding.extent.as_json() == {
        "customers": 1,
        "some_customers": [(TENANT, "customer-1")],
        "first_recorded": NOON,
        "last_recorded": NOON,
        "spans": [["touchpoints.v1", 0, 1, 2]],
    }
    assert _extent(finding.extent) == "of acme / customer-1, received 2026-11-20T12:00:00Z to 2026-11-20T12:00:00Z"
    assert _plan("ledger-svc", finding.extent) == (
        "touchpoint replay plan --consumer ledger-svc --from touchpoints.v1/0/1 --to touchpoints.v1/0/2"
    )


async def test_a_dead_letter_neither_in_its_topic_nor_in_the_outbox_is_unpublished(ledger, applied, report):
    def refuse(events):
        raise PermanentError("poison")

    ledger.before = refuse
    await applied(feedback(), feedback())
    assert _counts(await report()) == {}
    await ledger.query("DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox)")
    [finding] = (await report()).findings
    assert finding.fault is Fault.UNPUBLISHED
    assert finding.examples == [{"topic": "touchpoints.v1.ledger-svc.dlq", "what": "touchpoints.v1/0/0"}]


async def test_events_of_an_erased_customer_are_not_missing(ledger, applied, report):
    await applied(feedback(id="lost", customer_id="c1"))
    await ledger.query("DELETE FROM inbox")
    await ledger.query("DELETE FROM ledger")
    await ledger.query(
        "INSERT INTO erasures (tenant_id, customer_id, by, reason) VALUES ('acme', 'c1', 'ann', 'asked')"
    )
    result = await report()
    assert _counts(result) == {}
    assert result.outcomes == Counter(erased=1)


async def test_an_inbox_row_without_its_record_is_unexplained(ledger, applied, report):
    await applied(feedback(id="one"))
    again = 'SELECT consumer, gen_random_uuid(), type, payload_hash, topic, partition, "offset" FROM inbox'
    await ledger.query(f"INSERT INTO inbox {again}")
    assert _counts(await report()) == {(Fault.UNEXPLAINED, "inbox"): 1}


async def test_an_event_applied_after_a_later_one_of_its_customer_is_out_of_order(ledger, applied, report):
    await applied(*(feedback(id=str(n), customer_id=f"c{n % 2}") for n in range(4)))
    assert _counts(await report()) == {}
    await _apply_late(ledger, 1)
    [finding] = (await report()).findings
    assert finding.fault is Fault.OUT_OF_ORDER
    assert finding.examples == [{"topic": "touchpoints.v1", "partition": 0, "offset": 1}]


async def test_a_customers_last_event_may_be_applied_late(ledger, applied, report):
    await applied(*(feedback(id=str(n), customer_id=f"c{n % 2}") for n in range(4)))
    await _apply_late(ledger, 2)
    assert _counts(await report()) == {}


async def test_an_event_applied_late_by_a_replay_is_not_out_of_order(ledger, applied, report):
    await applied(*(feedback(id=str(n)) for n in range(4)))
    await _apply_late(ledger, 1)
    await ledger.query(
        "WITH replay AS ("
        "INSERT INTO replays (id, consumer, kind, state, filter, summary, plan_hash, cluster_id, planned_by) "
        "VALUES (gen_random_uuid(), 'ledger-svc', 'repair', 'done', '{}', '{}', '', '', 'ann') RETURNING id) "
        'INSERT INTO replay_checkpoints (replay_id, topic, partition, start, "end", next) '
        "SELECT id, 'touchpoints.v1', 0, 0, 2, 2 FROM replay"
    )
    assert _counts(await report()) == {}


async def test_an_applied_event_that_handlers_now_refuse_is_a_finding(ledger, applied, report):
    await applied(*(feedback(id=str(n)) for n in range(5)))

    def refuse(events):
        if any(event.meta.id == "3" for event in events):
            raise PermanentError("no more")

    ledger.before = refuse
    result = await report()
    assert _counts(result) == {(Fault.REFUSED, "touchpoints.v1"): 1, (Fault.UNEXPLAINED, "ledger"): 1}
    assert result.rows == {"ledger": 4}


async def test_after_a_pruning_only_records_still_in_the_inbox_are_checked(ledger, applied, report):
    await applied(*(feedback(id=str(n)) for n in range(4)))
    await ledger.query('DELETE FROM inbox WHERE "offset" < 2')
    await ledger.query("UPDATE offsets SET inbox_from = 2 WHERE partition = 0")
    result = await report()
    assert _counts(result) == {}
    assert result.outcomes == Counter(applied=2)
    assert "does not reach back to the first event" in result.notes[0]


async def test_verify_cannot_write_to_the_consumers_tables(ledger, applied, kafka):
    await applied(feedback(id="one"))
    forgetful = Subject("ledger-svc", ledger.handlers)
    with pytest.raises(Exception, match="read-only transaction"):
        await verify(forgetful, ledger.dsn, kafka)
    assert await ledger.ids() == ["one"]


async def test_a_log_of_another_system_is_refused(ledger, applied, report, kafka):
    await applied(feedback())
    elsewhere = kafka.model_copy(update={"topic_prefix": "nowhere."})
    with pytest.raises(UsageError, match="KAFKA_TOPIC_PREFIX"):
        await verify(Subject("ledger-svc", ledger.handlers), ledger.dsn, elsewhere)
    await ledger.query("UPDATE offsets SET cluster_id = 'another'")
    with pytest.raises(UsageError, match="belong together"):
        await report()


async def _apply_late(ledger, offset):
    """Insert a record's inbox row again, as if it had just been applied."""
    await ledger.query(
        'WITH gone AS (DELETE FROM inbox WHERE "offset" = :offset RETURNING *) INSERT INTO inbox SELECT * FROM gone',
        offset=offset,
    )
