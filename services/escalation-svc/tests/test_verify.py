"""`touchpoint verify` on escalation-svc: its tables are compared with those recomputed from events and decisions."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from escalation_svc.cases import service
from escalation_svc.cases.models import CASES
from escalation_svc.verify import subject
from touchpoint import cli
from touchpoint.db import databases
from touchpoint.db.engine import transaction
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume, drained, planted, working
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify

NAME = "escalation-svc"
DETRACTOR = make.feedback(customer_id="c1", score=2)
EVENTS = [
    make.customer_updated(customer_id="c1", tier="key"),
    DETRACTOR,
    make.ticket_opened(customer_id="c1", ticket_id="t1", priority="urgent"),
    make.ticket_replied(customer_id="c1", ticket_id="t1"),
    make.ticket_opened(customer_id="c1", ticket_id="t2"),
    make.sla_breached(customer_id="c1", ticket_id="t2"),
]

PLANTED = {
    "DELETE FROM escalations WHERE feedback_id IS NOT NULL": {(Fault.MISSING, "escalations"): 1},
    "UPDATE escalations SET reason = 'whim' WHERE feedback_id IS NOT NULL": {(Fault.CHANGED, "escalations"): 1},
    "INSERT INTO escalations SELECT tenant_id, gen_random_uuid(), 1, customer_id, reason, policy, priority, state, "
    "gen_random_uuid(), NULL, opened_at, recorded_at FROM escalations WHERE feedback_id IS NOT NULL": {
        (Fault.UNEXPLAINED, "escalations"): 1
    },
    "UPDATE escalations SET case_version = 1, state = 'open', acknowledged_at = NULL, acknowledged_by = NULL "
    "WHERE feedback_id IS NOT NULL": {(Fault.FORGOTTEN, "escalations"): 1},
    "UPDATE escalations SET case_version = 2, state = 'resolved' WHERE ticket_id = 't1'": {
        (Fault.UNPUBLISHED, "escalations"): 1
    },
    "DELETE FROM clocks WHERE ticket_id = 't1'": {(Fault.MISSING, "clocks"): 1},
    "UPDATE clocks SET fired = '[]' WHERE ticket_id = 't2'": {(Fault.MISSING, "firings"): 1},
    """UPDATE clocks SET fired = '[{"event_id": "e-1"}]' WHERE ticket_id = 't1'""": {(Fault.UNEXPLAINED, "firings"): 1},
    "UPDATE customers SET tier = 'standard'": {(Fault.CHANGED, "customers"): 1},
}

BY_TIME = "UPDATE clocks SET state = 'breached', fulfilled_at = NULL, version = 9 WHERE ticket_id = 't1'"


async def _acknowledge(factory):
    async with transaction(factory) as session:
        [case] = await CASES.fetch(session, f"SELECT {CASES.select} FROM escalations WHERE feedback_id IS NOT NULL")
        await service.acknowledge(session, case.tenant_id, case.escalation_id, "ann")


@pytest.fixture
async def database_after(kafka, dsn):
    """The service's database after it has read all events and a person has acknowledged the detractor's case."""
    await append(kafka, *EVENTS)
    handlers = subject().handlers
    async with working(NAME, handlers, kafka, dsn) as factory:
        await drained(NAME, handlers, kafka, factory)
        await _acknowledge(factory)
        await drained(NAME, handlers, kafka, factory)
    return dsn


async def test_verify_finds_nothing_in_correct_tables_and_reports_each_planted_fault(kafka, database_after):
    report = await verify(subject(), database_after, kafka)
    assert _findings(report) == {}
    assert report.rows == {"customers": 1, "clocks": 2, "firings": 1, "escalations": 2}
    for statement, expected in PLANTED.items():
        async with planted(database_after, statement) as copy:
            assert _findings(await verify(subject(), copy, kafka)) == expected, statement


async def test_a_clocks_state_by_the_timer_is_not_reported(kafka, database_after):
    async with planted(database_after, BY_TIME) as copy:
        assert _findings(await verify(subject(), copy, kafka)) == {}


@pytest.mark.parametrize("relay", [True, False], ids=["in its topic", "in the outbox"])
async def test_a_decision_that_the_consumer_has_not_read_yet_is_not_reported(kafka, dsn, relay):
    await append(kafka, *EVENTS)
    handlers = subject().handlers
    async with working(NAME, handlers, kafka, dsn) as factory:
        await drained(NAME, handlers, kafka, factory)
    async with working(NAME, handlers, kafka, dsn, consumer=False, relay=relay) as factory:
        await _acknowledge(factory)
    report = await verify(subject(), dsn, kafka)
    assert _findings(report) == {}
    assert (report.pending > 0) is relay


async def test_with_since_no_publication_is_missed_that_only_the_whole_log_decides(kafka, dsn):
    """The second tier is older than the first, so no case was opened; from the second on, the log looks otherwise."""
    await append(kafka, make.customer_updated(customer_id="c1", tier="basic", time=make.NOON))
    await consume(NAME, subject().handlers, kafka, dsn)
    later = datetime.now(UTC)
    await append(
        kafka,
        make.customer_updated(customer_id="c1", tier="key", time=make.NOON - timedelta(hours=1)),
        make.feedback(customer_id="c1", score=2),
    )
    await consume(NAME, subject().handlers, kafka, dsn)
    report = await verify(subject(), dsn, kafka, since=later)
    assert _findings(report) == {}
    assert report.outcomes["applied"] == 2
    assert (await verify(subject(), dsn, kafka)).rows["escalations"] == 0


@pytest.mark.parametrize(
    "planted_error",
    [
        "DELETE FROM escalations",
        "UPDATE escalations SET case_version = 1, state = 'open', acknowledged_at = NULL WHERE feedback_id IS NOT NULL",
        "UPDATE clocks SET fired = '[]', state = 'active' WHERE ticket_id = 't2'",
    ],
)
async def test_decisions_that_were_changed_by_hand_are_read_again_by_a_command(
    kafka, database_after, planted_error, monkeypatch
):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC_PREFIX", kafka.topic_prefix)
    async with planted(database_after, planted_error) as copy:
        arguments = ["replay", "fold", "--consumer", NAME, "--reason", "OPS-93", "--database-url", copy]
        result = await asyncio.to_thread(CliRunner().invoke, cli.commands(), arguments)
        assert (result.exit_code, result.stdout) == (0, "4 decisions read again.\n"), result.output
        assert _findings(await verify(subject(), copy, kafka)) == {}
        async with databases.connected(copy) as connection:
            trail = await connection.fetch("SELECT action, subject, reason, details->>'records' FROM audit")
    assert [tuple(row) for row in trail] == [("decisions.folded", NAME, "OPS-93", "4")]


def _findings(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}
