"""Kafka fails under load and comes back: clients get errors at once, memory stays bounded, nothing is lost or doubled.

`FAULT_OUTAGE` is how many seconds it is away (`make faults`: three minutes). Not part of every test run: it takes more
than a minute, and the smoke of `test_faults.py` kills Kafka as well.
"""

import os

import pytest

from bench import kafka_gone

OUTAGE = int(os.environ.get("FAULT_OUTAGE", "0"))
MOST_MIB = 200
"""The budgets for what waits for Kafka and for bodies, and what both cost beside their bytes."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not OUTAGE, reason="takes a while: FAULT_OUTAGE=10 runs it"),
]


async def test_a_gateway_whose_broker_goes_away_refuses_at_once_keeps_its_memory_and_goes_on_by_itself(
    servers, tmp_path
):
    async with kafka_gone.outage(servers, tmp_path, OUTAGE, print) as (system, course):
        lost, repeated = await kafka_gone.compare(system.kafka, course)
        summary = course.summary()
        kafka_gone.keep(course, tmp_path / "kafka_gone.json", {"lost": lost, "repeated": repeated})
        print(f"\n{summary}\n{tmp_path}")
    assert (lost, repeated) == (0, 0)
    refused = [seen for seen in course.observed if seen["status"] != 202]
    assert refused
    assert {(seen["status"], seen["retry_after"]) for seen in refused} == {(503, "2")}
    assert course.observed[-1]["status"] == 202
    assert summary["rss_peak_mib"] - summary["rss_before_mib"] < MOST_MIB
