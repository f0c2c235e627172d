"""`touchpoint verify` on this service: it finds what was planted, and nothing where all is well."""

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
    """The service's database once all of the log is applied."""
    await consume("feedback-svc", subject().handlers, log, dsn)
    return dsn


@pytest.fixture
def report(database_after, log):
    """The check's report."""

    async def check(**options):
        return await verify(subject(), database_after, log, **options)

    return check


def _found(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}


async def test_where_all_is_well_nothing_is_found_and_everything_is_counted(report):
    found = await report()
    assert _found(found) == {}
    assert found.outcomes == Counter(applied=16, duplicate=1)
    assert found.rows == {"feedback": 13, "timeline": 15}
    assert (found.published, found.pending, found.notes) == (13, 0, [])


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


async def test_whatever_was_planted_is_found_with_its_place_and_nothing_else(log, database_after):
    for statement, expected in PLANTED.items():
        async with planted(database_after, statement) as dsn:
            assert _found(await verify(subject(), dsn, log)) == expected, statement


async def test_a_finding_names_the_row_and_quotes_no_customer(log, database_after):
    async with planted(database_after, "UPDATE feedback SET text = 'Wonderful!' WHERE event_id = 'f5'") as dsn:
        found = await verify(subject(), dsn, log)
    assert found.findings[0].examples == [{"tenant_id": "acme", "id": EVENTS[5].meta.identity}]
    assert "Wonderful" not in json.dumps(found.as_json(), default=str)


async def test_news_that_waits_to_be_sent_is_promised_and_news_that_was_lost_is_found(log, dsn):
    await consume("feedback-svc", subject().handlers, log, dsn, relay=False)
    assert _found(await verify(subject(), dsn, log)) == {}
    async with planted(dsn, "DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox)") as copy:
        assert _found(await verify(subject(), copy, log)) == {(Fault.UNPUBLISHED, "feedback.v1"): 1}


async def test_since_a_moment_only_what_came_later_is_read(log, database_after, report):
    later, earlier = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, -1))
    found = await report(since=later)
    assert (found.records, found.rows, _found(found)) == (0, {"feedback": 0, "timeline": 0}, {})
    assert "may come from earlier events" in found.notes[0]
    async with planted(database_after, "DELETE FROM feedback WHERE event_id = 'f3'") as dsn:
        assert _found(await verify(subject(), dsn, log, since=earlier)) == {(Fault.MISSING, "feedback"): 1}
        assert _found(await verify(subject(), dsn, log, since=later)) == {}


@pytest.fixture
def command(log, monkeypatch):
    """Runs the command on a database as an operator would, in a thread: it has an event loop of its own."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC_PREFIX", log.topic_prefix)

    async def run(dsn, *arguments):
        return await asyncio.to_thread(
            CliRunner().invoke, cli.commands(), ["verify", "--database-url", dsn, *arguments]
        )

    return run


async def test_the_command_ends_with_0_where_all_is_well_and_1_where_it_says_what_is_not(command, database_after):
    result = await command(database_after, "--json")
    [told] = json.loads(result.stdout)
    assert (told["consumer"], told["clean"], told["outcomes"]["applied"]) == ("feedback-svc", True, 16)
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
    assert "'yesterday' is no time" in result.stderr
