"""Whether a log is still the one a consumer has read. A name and a length do not tell.

A log can lose its tail and grow past the old end again, be deleted and created anew, or be restored from a backup. So
three things are kept beside each offset: the cluster's id, the topic's id, and the fingerprint of the last record that
was read, which is read again and compared. Where it differs, the inbox says how far the log is still the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import asyncpg
from aiokafka import TopicPartition

from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record, fingerprint
from touchpoint.db import dead_letters, inbox
from touchpoint.db.losses import Loss
from touchpoint.db.offsets import Place, Position
from touchpoint.kafka import log, metadata
from touchpoint.kafka.client import LogConsumer
from touchpoint.kafka.reader import read_record

FIRST_STEP, MOST_RECORDS = 500, 200_000
"""Records read backwards from the end, at first and at most, to find the last one that is still the same. Going on
before that one is safe, the inbox knows what was applied; it only takes longer."""
POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Examined:
    """What was seen of some partitions: `losses`, and of those that are whole what identifies them."""

    losses: list[Loss] = field(default_factory=list)
    known: dict[Place, Position] = field(default_factory=dict)


async def examine(
    raw: asyncpg.Connection, settings: KafkaSettings, consumer: str, positions: Mapping[Place, Position]
) -> Examined:
    """Compare partitions with what was kept when a consumer read them. Raises Kafka's own errors."""
    examined = Examined()
    async with log.group_less(settings, max_partition_fetch_bytes=1) as kafka:
        topics = sorted({settings.topic_prefix + topic for topic, _ in positions})
        cluster = await metadata.describe(kafka._client, topics)  # a request that aiokafka does not offer
        places = {log.partition(settings, place): place for place in positions}
        begins, ends = await kafka.beginning_offsets(places), await kafka.end_offsets(places)
        spans = {tp: _last_read(positions[place]) for tp, place in places.items()}
        last = await _only_records(
            kafka, {tp: span for tp, span in spans.items() if begins[tp] <= span[0] < span[1] <= ends[tp]}
        )
    for tp, place in places.items():
        stored, (topic_id, _) = positions[place], cluster.place(tp)
        found = Position(stored.next, cluster.id, topic_id, *last.get(tp, (None, None)))
        first, until, why = stored.next, stored.next, _why(stored, found, begins[tp], ends[tp])
        if stored.next < begins[tp]:
            until = begins[tp]
        elif why:
            span = begins[tp], min(stored.next, ends[tp])
            first = await _same_until(raw, settings, consumer, place, span)
        if why and (first < until or stored.cluster_id != cluster.id):
            reason, resume_at = f"{tp.topic}/{tp.partition}: {why}", max(first, begins[tp])
            examined.losses.append(Loss(*place, first, until, resume_at, cluster.id, topic_id, reason))
        else:
            examined.known[place] = found
    return examined


def _last_read(stored: Position) -> tuple[int, int]:
    """The offset of the last record read, and the one behind it; what was never learned is the record before `next`."""
    return stored.next - 1 if stored.last_offset is None else stored.last_offset, stored.next


def _why(stored: Position, found: Position, begin: int, end: int) -> str | None:
    """Why the log may not be the one that was read; None when it is."""
    if stored.cluster_id != found.cluster_id:
        return f"offsets were stored for Kafka cluster {stored.cluster_id}, this one is {found.cluster_id}"
    if stored.topic_id not in (None, found.topic_id):
        return "the topic was deleted and created again"
    if stored.next < begin:
        return f"records {stored.next} to {begin - 1} are gone, never applied"
    if stored.next > end:
        return f"the log ends at {end}, but records up to {stored.next - 1} were applied: it was cut or made anew"
    if stored.last_offset is not None and begin <= stored.last_offset and stored.last_record != found.last_record:
        return f"record {stored.last_offset} is not the one that was applied: the log was cut and has grown again"
    return None


async def _only_records(
    kafka: LogConsumer, spans: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, tuple[int, bytes]]:
    """Offset and fingerprint of the record each span begins with, where it holds no other record."""
    kafka.assign(list(spans))
    for tp, (first, _) in spans.items():
        kafka.seek(tp, first)
    found: dict[TopicPartition, list[Record]] = {tp: [] for tp in spans}
    waiting = set(spans)
    while waiting:
        for tp, records in (await kafka.getmany(*waiting, timeout_ms=POLL_MS)).items():
            read = [read_record(tp.topic, record) for record in records if record.offset < spans[tp][1]]
            found[tp] += [
                record for record in read if getattr(record.value, "offsets", None) is None
            ]  # was passed over
        waiting = {tp for tp in waiting if await kafka.position(tp) < spans[tp][1]}
    return {
        tp: (records[0].offset, fingerprint(records[0]))
        for tp, records in found.items()
        if [record.offset for record in records] == [spans[tp][0]]
    }


async def _same_until(
    raw: asyncpg.Connection, settings: KafkaSettings, consumer: str, place: Place, span: tuple[int, int]
) -> int:
    """Behind the last record in this part of the log that is at the place where the consumer has taken it."""
    begin, end = span
    step, reached = FIRST_STEP, end
    async with log.group_less(settings) as kafka:
        while reached > begin and end - reached < MOST_RECORDS:
            start = max(begin, reached - step)
            async for records in log.read(kafka, settings.topic_prefix, {place: (start, reached)}):
                same = await _taken(raw, consumer, records)
                begin = max(begin, *(offset + 1 for offset in same)) if same else begin
            reached, step = start, step * 4
    return begin


async def _taken(raw: asyncpg.Connection, consumer: str, records: Iterable[Record]) -> set[int]:
    """The offsets of those records that were applied, or became dead letters, from where they lie."""
    chosen = list(records)
    return await inbox.applied_here(raw, consumer, chosen) | await dead_letters.taken(raw, consumer, chosen)
