"""`touchpoint verify` on metrics-svc: every sum that differs from a recount is reported."""

from collections import Counter
from datetime import timedelta

from metrics_svc.verify import subject
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume, planted
from touchpoint.testing.factories import NOON
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify

EVENTS = [
    make.customer_updated(customer_id="c1", segment="retail", tier="key"),
    make.feedback(customer_id="c1", score=9),
    make.feedback(customer_id="c1", score=9),
    make.feedback(customer_id="c2", score=3),
    make.ticket_opened(customer_id="c1", ticket_id="t1"),
    make.ticket_replied(customer_id="c2", ticket_id="t1", time=NOON + timedelta(minutes=10)),
    make.ticket_replied(customer_id="c1", ticket_id="t1", time=NOON + timedelta(minutes=5)),
    make.ticket_status_changed(customer_id="c1", ticket_id="t1", time=NOON + timedelta(minutes=20)),
    make.interaction(customer_id="c1"),
    make.feedback(kind="csat", score=None),
]
"""Among them a ticket of two customers, whose events are in two partitions. The last event cannot be counted."""

PLANTED = {
    "UPDATE rollups SET n = n + 1 WHERE metric = 'nps' AND bucket = 9": {(Fault.CHANGED, "rollups"): 1},
    "UPDATE rollups SET total = total - 1 WHERE metric = 'resolution'": {(Fault.CHANGED, "rollups"): 1},
    "DELETE FROM rollups WHERE metric = 'nps' AND bucket = 3": {(Fault.MISSING, "rollups"): 1},
    "UPDATE rollups SET segment = 'industry' WHERE metric = 'nps' AND bucket = 9": {
        (Fault.MISSING, "rollups"): 1,
        (Fault.UNEXPLAINED, "rollups"): 1,
    },
    "UPDATE changes SET tier = 'standard'": {(Fault.CHANGED, "changes"): 1},
    "UPDATE answers SET segment = 'industry' WHERE customer_id = 'c2'": {(Fault.CHANGED, "answers"): 1},
    "DELETE FROM tickets": {(Fault.MISSING, "tickets"): 1},
    "DELETE FROM dead_letters": {(Fault.MISSING, "touchpoints.v1"): 1},
}


async def test_verify_finds_nothing_in_correct_sums_and_reports_each_planted_fault(kafka, dsn):
    await append(kafka, *EVENTS)
    await consume("metrics-svc", subject().handlers, kafka, dsn)
    report = await verify(subject(), dsn, kafka)
    assert _found(report) == {}
    assert report.outcomes == Counter(applied=8, ignored=1, open=1)
    assert report.published == 1
    assert report.rows == {"rollups": 4, "changes": 1, "answers": 3, "tickets": 1}
    for statement, expected in PLANTED.items():
        async with planted(dsn, statement) as copy:
            assert _found(await verify(subject(), copy, kafka)) == expected, statement


async def test_a_changed_counter_is_reported_with_its_expected_value(kafka, dsn):
    await append(kafka, make.feedback(score=9), make.feedback(score=9))
    await consume("metrics-svc", subject().handlers, kafka, dsn)
    async with planted(dsn, "UPDATE rollups SET n = 3") as copy:
        [finding] = (await verify(subject(), copy, kafka)).findings
    assert finding.examples[0]["metric"] == "nps"
    assert (finding.examples[0]["expected"], finding.examples[0]["stored"]) == ("n=2 total=18", "n=3 total=18")


def _found(report):
    return {(finding.fault, finding.where): finding.count for finding in report.findings}
