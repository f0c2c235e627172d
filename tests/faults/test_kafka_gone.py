"""Kafka fails under load and restarts: clients get errors at once, memory is bounded, no event is lost or duplicated.

`FAULT_OUTAGE` is the length of the outage in seconds (`make faults`: three minutes). Not part of every test run: it
takes more than a minute, and the smoke faults of `test_faults.py` include a killed Kafka.
"""

import os

import pytest

from bench import kafka_gone

OUTAGE = int(os.environ.get("FAULT_OUTAGE", "0"))
MOST_MIB = 200
"""The budgets for records that wait for Kafka and for bodies, and the overhead of both."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not OUTAGE, reason="takes a while: FAULT_OUTAGE=10 runs it"),
]


async def test_a_gateway_without_its_broker_answers_503_bounds_memory_and_recovers(servers, tmp_path):
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
