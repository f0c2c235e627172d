"""What the databases must hold, counted again from the log by code that shares nothing with the services."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.settings import KafkaSettings


@dataclass
class Expected:
    """The effects of a log, each event counted where it stands first."""

    ids: set[str] = field(default_factory=set)
    by_type: Counter[str] = field(default_factory=Counter)
    rollups: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """(metric, hour, scale, channel, segment, tier, score; -1 for durations): how many."""
    totals: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    """By reason."""
    records: int = 0


async def read_log(kafka: KafkaSettings, topic: str) -> list[list[tuple[dict[str, str], dict[str, Any]]]]:
    """Per partition, every record as (headers, data), in order."""
    consumer = AIOKafkaConsumer(**kafka.client_options())
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka.topic_prefix + topic, number) for number in range(kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[TopicPartition, list[Any]] = {tp: [] for tp in partitions}
        while any(len(found[tp]) < ends[tp] for tp in partitions):
            for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                found[tp] += [({k: v.decode() for k, v in r.headers}, json.loads(r.value)) for r in records]
        return list(found.values())
    finally:
        await consumer.stop()


def recount(partitions: list[list[tuple[dict[str, str], dict[str, Any]]]]) -> Expected:
    """Go through the log of touchpoints.v1 once."""
    expected = Expected()
    for records in partitions:
        customers: dict[str, dict[str, str]] = {}
        tickets: dict[str, dict[str, Any]] = {}
        for headers, data in records:
            expected.records += 1
            if headers["ce_id"] in expected.ids:
                continue
            expected.ids.add(headers["ce_id"])
            expected.by_type[headers["ce_type"]] += 1
            _count(expected, headers["ce_type"], datetime.fromisoformat(headers["ce_time"]), data, customers, tickets)
    return expected


def _count(
    expected: Expected,
    kind: str,
    time: datetime,
    data: dict[str, Any],
    customers: dict[str, Any],
    tickets: dict[str, Any],
) -> None:
    customer = customers.setdefault(data["customer_id"], {})
    if kind == "customer.updated":
        customer.update({name: data[name] for name in ("tier", "segment") if name in data})
    elif kind == "feedback.submitted":
        score = data["score"]
        scale = f"{score['min']}-{score['max']}"
        _add(expected, data["kind"], time, scale, data["channel"], customer, score["value"], score["value"])
        _case_for_score(expected, data, customer)
    elif kind == "ticket.opened":
        tickets[data["ticket_id"]] = {"at": time, "channel": data["channel"], **customer}
        if data["priority"] == "urgent":
            expected.cases["urgent_ticket"] += 1
    elif kind == "ticket.replied" and data["author"] == "agent":
        _duration(expected, "first-response", time, tickets[data["ticket_id"]])
    elif kind == "ticket.status_changed":
        _duration(expected, "resolution", time, tickets[data["ticket_id"]])


def _case_for_score(expected: Expected, data: dict[str, Any], customer: dict[str, str]) -> None:
    if customer.get("tier") != "key":
        return
    value = data["score"]["value"]
    if data["kind"] == "nps" and value <= 6:
        expected.cases["detractor"] += 1
    elif data["kind"] == "csat" and value <= 2:
        expected.cases["low_rating"] += 1


def _duration(expected: Expected, metric: str, time: datetime, ticket: dict[str, Any]) -> None:
    seconds = (time - ticket["at"]).total_seconds()
    _add(expected, metric, time, "", ticket["channel"], ticket, -1, round(seconds * 1e6))


def _add(
    expected: Expected,
    metric: str,
    time: datetime,
    scale: str,
    channel: str,
    dims: dict[str, Any],
    bucket: int,
    total: int,
) -> None:
    hour = time.replace(minute=0, second=0, microsecond=0)
    key = (metric, hour, scale, channel, dims["segment"], dims["tier"], bucket)
    expected.rollups[key] += 1
    expected.totals[key] += total
