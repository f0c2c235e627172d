"""Checks whether a partition's log is still the one a consumer has read.

A log can be truncated and grow past its old end again, be deleted and recreated, or be restored from a backup. Topic
name and length do not show that. So three identifiers are stored with each offset: the cluster id, the topic id, and
the fingerprint of the last record read, which is read again and compared. If one differs, the inbox shows up to which
offset the log is unchanged.
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
"""Records read backwards from the end, in the first step and at most, to find the last unchanged one. Resuming before
it is safe, because the inbox filters out events already applied; it only takes longer."""
POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Examined:
    """The result for some partitions: `losses`, and the current identifiers of the partitions without loss."""

    losses: list[Loss] = field(default_factory=list)
    known: dict[Place, Position] = field(default_factory=dict)


async def examine(
    raw: asyncpg.Connection, settings: KafkaSettings, consumer: str, positions: Mapping[Place, Position]
) -> Examined:
    """Compare the logs of partitions with the identifiers stored when they were read. Raises Kafka's own errors."""
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
        actual = Position(stored.next, cluster.id, topic_id, *last.get(tp, (None, None)))
        first, until, why = stored.next, stored.next, _why(stored, actual, begins[tp], ends[tp])
        if stored.next < begins[tp]:
            until = begins[tp]
        elif why:
            span = begins[tp], min(stored.next, ends[tp])
            first = await _same_until(raw, settings, consumer, place, span)
        if why and (first < until or stored.cluster_id != cluster.id):
            reason, resume_at = f"{tp.topic}/{tp.partition}: {why}", max(first, begins[tp])
            examined.losses.append(Loss(*place, first, until, resume_at, cluster.id, topic_id, reason))
        else:
            examined.known[place] = actual
    return examined


def _last_read(stored: Position) -> tuple[int, int]:
    """The offset of the last record read (`next` - 1 if it was not stored), and the next offset to read."""
    return stored.next - 1 if stored.last_offset is None else stored.last_offset, stored.next


def _why(stored: Position, actual: Position, begin: int, end: int) -> str | None:
    """How the log differs from the one that was read; None if it does not."""
    if stored.cluster_id != actual.cluster_id:
        return f"offsets were stored for Kafka cluster {stored.cluster_id}, this one is {actual.cluster_id}"
    if stored.topic_id not in (None, actual.topic_id):
        return "the topic was deleted and created again"
    if stored.next < begin:
        return f"records {stored.next} to {begin - 1} are gone: deleted from Kafka before they were applied"
    if stored.next > end:
        return f"the log ends at {end}, but records up to {stored.next - 1} were applied: it was truncated or recreated"
    if stored.last_offset is not None and begin <= stored.last_offset and stored.last_record != actual.last_record:
        return f"record {stored.last_offset} is not the one that was applied: the log was truncated and has grown again"
    return None


async def _only_records(
    kafka: LogConsumer, spans: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, tuple[int, bytes]]:
    """Offset and fingerprint of the first record of each span, for spans that contain no other record."""
    kafka.assign(list(spans))
    for tp, (first, _) in spans.items():
        kafka.seek(tp, first)
    in_spans: dict[TopicPartition, list[Record]] = {tp: [] for tp in spans}
    waiting = set(spans)
    while waiting:
        for tp, records in (await kafka.getmany(*waiting, timeout_ms=POLL_MS)).items():
            read = [read_record(tp.topic, record) for record in records if record.offset < spans[tp][1]]
            # Without unreadable batches, which an operator had the consumer pass over.
            in_spans[tp] += [record for record in read if getattr(record.value, "offsets", None) is None]
        waiting = {tp for tp in waiting if await kafka.position(tp) < spans[tp][1]}
    return {
        tp: (records[0].offset, fingerprint(records[0]))
        for tp, records in in_spans.items()
        if [record.offset for record in records] == [spans[tp][0]]
    }


async def _same_until(
    raw: asyncpg.Connection, settings: KafkaSettings, consumer: str, place: Place, span: tuple[int, int]
) -> int:
    """The offset after the last record in this span that the consumer has processed from that very offset."""
    begin, end = span
    step, reached = FIRST_STEP, end
    async with log.group_less(settings) as kafka:
        while reached > begin and end - reached < MOST_RECORDS:
            start = max(begin, reached - step)
            async for records in log.read(kafka, settings.topic_prefix, {place: (start, reached)}):
                same = await _processed(raw, consumer, records)
                begin = max(begin, *(offset + 1 for offset in same)) if same else begin
            reached, step = start, step * 4
    return begin


async def _processed(raw: asyncpg.Connection, consumer: str, records: Iterable[Record]) -> set[int]:
    """The offsets of the records that were applied or became dead letters, at exactly that offset."""
    batch = list(records)
    return await inbox.applied_here(raw, consumer, batch) | await dead_letters.taken(raw, consumer, batch)
