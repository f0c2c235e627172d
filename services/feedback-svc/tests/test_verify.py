"""`touchpoint verify` on feedback-svc: it reports planted faults, and nothing when there are none."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from feedback_svc.verify import subject
from touchpoint import cli
from touchpoint.base.errors import UsageError
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume, planted
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify

EVENTS = [
    *(make.feedback(id=f"f{number}", customer_id=f"c{number % 4}") for number in range(12)),
    make.feedback(id="anonymous", customer_id=None, submission_id="s1"),
    make.ticket_opened(id="t1", customer_id="c1"),
    make.ticket_replied(id="t2", customer_id="c1"),
    make.escalation_opened(id="e1", customer_id="c1"),
]


@pytest.fixture
async def log(kafka):
    await append(kafka, *EVENTS, EVENTS[0])
    return kafka


@pytest.fixture
async def database_after(log, dsn):
    """The service's database after the whole log has been applied."""
    await consume("feedback-svc", subject().handlers, log, dsn)
    return dsn


@pytest.fixture
def report(database_after, log):
    """Runs `verify` with these options and returns its report."""

    async def check(**options):
        return await verify(subject(), database_after, log, **options)

    return check


def _findings(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}


async def test_a_correct_database_has_no_findings_and_every_row_is_counted(report):
    checked = await report()
    assert _findings(checked) == {}
    assert checked.outcomes == Counter(applied=16, duplicate=1)
    assert checked.rows == {"feedback": 13, "timeline": 15}
    assert (checked.published, checked.pending, checked.notes) == (13, 0, [])


LOST = EVENTS[7].meta.identity
PLANTED = {
    "DELETE FROM feedback WHERE event_id = 'f3'": {(Fault.MISSING, "feedback"): 1},
    "DELETE FROM timeline WHERE type = 'escalation.opened'": {(Fault.MISSING, "timeline"): 1},
    "INSERT INTO timeline SELECT tenant_id, customer_id, occurred_at + interval '1 s', id, recorded_at, type, title, "
    "details FROM timeline WHERE type = 'ticket.opened'": {(Fault.TWICE, "timeline"): 1},
    "UPDATE feedback SET text = 'Wonderful!' WHERE event_id = 'f5'": {(Fault.CHANGED, "feedback"): 1},
    "INSERT INTO feedback (tenant_id, id, source, event_id, occurred_at, recorded_at, backfill, kind, channel) "
    "VALUES ('acme', gen_random_uuid(), '', '', now(), now(), false, 'nps', 'web')": {
        (Fault.UNEXPLAINED, "feedback"): 1
    },
    f"DELETE FROM inbox WHERE event_id = '{LOST}'": {
        (Fault.MISSING, "touchpoints.v1"): 1,
        (Fault.UNEXPLAINED, "feedback"): 1,
        (Fault.UNEXPLAINED, "timeline"): 1,
    },
}


async def test_each_planted_fault_is_reported_with_its_table_and_nothing_else(log, database_after):
    for statement, expected in PLANTED.items():
        async with planted(database_after, statement) as dsn:
            assert _findings(await verify(subject(), dsn, log)) == expected, statement


async def test_a_finding_names_the_row_and_quotes_no_customer(log, database_after):
    async with planted(database_after, "UPDATE feedback SET text = 'Wonderful!' WHERE event_id = 'f5'") as dsn:
        checked = await verify(subject(), dsn, log)
    assert checked.findings[0].examples == [{"tenant_id": "acme", "id": EVENTS[5].meta.identity}]
    assert "Wonderful" not in json.dumps(checked.as_json(), default=str)


async def test_an_event_waiting_in_the_outbox_is_no_fault_and_a_lost_event_is_unpublished(log, dsn):
    await consume("feedback-svc", subject().handlers, log, dsn, relay=False)
    assert _findings(await verify(subject(), dsn, log)) == {}
    async with planted(dsn, "DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox)") as copy:
        assert _findings(await verify(subject(), copy, log)) == {(Fault.UNPUBLISHED, "feedback.v1"): 1}


async def test_with_since_only_later_records_are_read(log, database_after, report):
    later, earlier = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, -1))
    checked = await report(since=later)
    assert (checked.records, checked.rows, _findings(checked)) == (0, {"feedback": 0, "timeline": 0}, {})
    assert "not reported" in checked.notes[0]
    async with planted(database_after, "DELETE FROM feedback WHERE event_id = 'f3'") as dsn:
        assert _findings(await verify(subject(), dsn, log, since=earlier)) == {(Fault.MISSING, "feedback"): 1}
        assert _findings(await verify(subject(), dsn, log, since=later)) == {}


@pytest.fixture
def command(log, monkeypatch):
    """Runs the command as an operator would; in a thread, because it starts an event loop of its own."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC_PREFIX", log.topic_prefix)

    async def run(dsn, *arguments):
        return await asyncio.to_thread(
            CliRunner().invoke, cli.commands(), ["verify", "--database-url", dsn, *arguments]
        )

    return run


async def test_the_command_exits_with_0_without_findings_and_with_1_with_findings(command, database_after):
    result = await command(database_after, "--json")
    [summary] = json.loads(result.stdout)
    assert (summary["consumer"], summary["clean"], summary["outcomes"]["applied"]) == ("feedback-svc", True, 16)
    assert result.exit_code == 0
    async with planted(database_after, f"DELETE FROM inbox WHERE event_id = '{LOST}'") as dsn:
        result = await command(dsn)
    assert result.exit_code == 1
    assert "feedback-svc: 1 missing in touchpoints.v1" in result.stdout
    assert str(LOST) in result.stdout
    assert "touchpoint replay plan --consumer feedback-svc" in result.stdout


async def test_the_command_says_in_one_line_why_it_cannot_check(command, dsn):
    result = await command(dsn, "--consumer", "nobody")
    assert isinstance(result.exception, UsageError)
    assert "no consumer nobody here" in str(result.exception)
    result = await command(dsn, "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is not a time" in result.stderr
