"""`touchpoint verify` on escalation-svc: cases and clocks are compared with those recomputed from the log."""

from datetime import UTC, datetime, timedelta

import pytest

from escalation_svc.verify import subject
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume, planted
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify

EVENTS = [
    make.customer_updated(customer_id="c1", tier="key"),
    make.feedback(customer_id="c1", score=2),
    make.ticket_opened(customer_id="c1", ticket_id="t1", priority="urgent"),
    make.ticket_replied(customer_id="c1", ticket_id="t1"),
]

PLANTED = {
    "DELETE FROM escalations WHERE feedback_id IS NOT NULL": {(Fault.MISSING, "cases"): 1},
    "UPDATE escalations SET reason = 'whim' WHERE feedback_id IS NOT NULL": {(Fault.CHANGED, "cases"): 1},
    "INSERT INTO escalations SELECT tenant_id, gen_random_uuid(), 1, customer_id, reason, policy, priority, state, "
    "gen_random_uuid(), NULL, opened_at, recorded_at FROM escalations WHERE feedback_id IS NOT NULL": {
        (Fault.UNEXPLAINED, "cases"): 1
    },
    "DELETE FROM clocks": {(Fault.MISSING, "clocks"): 1},
    "UPDATE customers SET tier = 'standard'": {(Fault.CHANGED, "customers"): 1},
}

BY_TIME_AND_PEOPLE = (
    "UPDATE escalations SET state = 'resolved', case_version = 2, resolved_by = 'ann', resolved_at = now()",
    "UPDATE clocks SET state = 'breached', fulfilled_at = NULL, version = 9",
    "WITH late AS (UPDATE clocks SET state = 'breached' RETURNING ticket_id) "
    "INSERT INTO escalations SELECT tenant_id, gen_random_uuid(), 1, customer_id, 'sla_breached', 'late', priority, "
    "state, NULL, late.ticket_id, opened_at, recorded_at FROM late JOIN escalations USING (ticket_id)",
)


@pytest.fixture
async def database_after(kafka, dsn):
    await append(kafka, *EVENTS)
    await consume("escalation-svc", subject().handlers, kafka, dsn)
    return dsn


async def test_verify_finds_nothing_in_correct_tables_and_reports_each_planted_fault(kafka, database_after):
    report = await verify(subject(), database_after, kafka)
    assert _found(report) == {}
    assert report.rows == {"customers": 1, "clocks": 1, "cases": 2}
    for statement, expected in PLANTED.items():
        async with planted(database_after, statement) as copy:
            assert _found(await verify(subject(), copy, kafka)) == expected, statement


async def test_changes_by_the_timer_and_by_people_are_not_reported(kafka, database_after):
    for statement in BY_TIME_AND_PEOPLE:
        async with planted(database_after, statement) as copy:
            assert _found(await verify(subject(), copy, kafka)) == {}, statement


async def test_with_since_no_publication_is_missed_that_only_the_whole_log_decides(kafka, dsn):
    """The second tier is older than the first, so no case was opened; from the second on, the log looks otherwise."""
    await append(kafka, make.customer_updated(customer_id="c1", tier="basic", time=make.NOON))
    await consume("escalation-svc", subject().handlers, kafka, dsn)
    later = datetime.now(UTC)
    await append(
        kafka,
        make.customer_updated(customer_id="c1", tier="key", time=make.NOON - timedelta(hours=1)),
        make.feedback(customer_id="c1", score=2),
    )
    await consume("escalation-svc", subject().handlers, kafka, dsn)
    report = await verify(subject(), dsn, kafka, since=later)
    assert _found(report) == {}
    assert report.outcomes["applied"] == 2
    assert (await verify(subject(), dsn, kafka)).rows["cases"] == 0


def _found(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}
