"""Verifies one consumer: compares the log with a snapshot of its database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import WRITERS, dead_letters
from touchpoint.db import losses
from touchpoint.db.losses import Loss
from touchpoint.db.offsets import Place
from touchpoint.kafka import fold
from touchpoint.kafka import log as logs
from touchpoint.kafka.batch import Entry, decoded
from touchpoint.kafka.identity import examine
from touchpoint.kafka.log import Log, Spans
from touchpoint.verify.compare import compare, find_forgotten
from touchpoint.verify.inbox import AGAIN, APPLIED, MISSING, REDRIVEN, Inbox, Position
from touchpoint.verify.outbox import Outbox
from touchpoint.verify.rebuild import Rebuild
from touchpoint.verify.report import Fault, Report
from touchpoint.verify.snapshot import snapshot
from touchpoint.verify.subject import Subject

IGNORED = "ignored"
"""The outcome of a record whose type the consumer does not handle."""

Show = Callable[[str, int, int], None]
"""A progress callback: (current work, records done, records in total)."""


async def verify(
    subject: Subject, dsn: str, kafka: KafkaSettings, *, since: datetime | None = None, show: Show = lambda *_: None
) -> Report:
    """Verify a consumer from the log's beginning, or from the time `since`, to its current position.

    Raises UsageError if Kafka or the database cannot be reached, or do not belong together.
    """
    consumer = subject.consumer
    async with (
        logs.connected(kafka, [*WRITERS, *(dead_letters(topic, consumer) for topic in subject.handlers.topics)]) as log,
        snapshot(dsn, [*subject.tables, "outbox"]) as (connection, raw),
    ):
        check = _Check(
            subject, log, raw, Inbox(raw, consumer), Rebuild(connection, subject.handlers), Outbox(raw, consumer), show,
            Report(consumer), kafka,
        )  # fmt: skip
        return await check.run(since)


@dataclass(slots=True)
class _Check:
    subject: Subject
    log: Log
    raw: asyncpg.Connection
    inbox: Inbox
    rebuild: Rebuild
    outbox: Outbox
    show: Show
    report: Report
    settings: KafkaSettings
    promises: bool = True
    """Whether to check that the events caused by the records read are published."""

    async def run(self, since: datetime | None) -> Report:
        positions = await self.inbox.positions()
        lost = await self._lost(positions)
        spans = await self._spans(positions, since, {(loss.topic, loss.partition): loss.first for loss in lost})
        pruned = any(position.inbox_from for position in positions.values())
        whole = not (pruned or await self.inbox.begins_before(spans))
        # From a part of the log, handlers decide on a part of the state, and may cause events that never were.
        self.promises = whole or all(effect.per_event for effect in self.subject.effects)
        done, total = 0, sum(end - start for start, end in spans.values())
        async for records in self.log.read(spans):
            await self._take(records)
            done += len(records)
            self.show("reading the log", done, total)
        await self._check_inbox(
            {
                place: (start, max(end, positions[place].log.next))
                for place, (start, end) in spans.items()
                if place in positions
            }
        )
        if whole:
            await find_forgotten(self.raw, self.subject.effects, self.report, made="pg_temp")
            await self._take_later_decisions(positions)
        for effect in self.subject.effects:
            if whole or effect.per_event:
                self.show(f"comparing {effect.name}", 0, 0)
                await compare(self.raw, effect, self.report, made="pg_temp", whole=whole)
        await self._check_published(spans, since)
        if not whole:
            self._note_what_was_left_out(since)
        return self.report

    async def _lost(self, positions: Mapping[Place, Position]) -> Sequence[Loss]:
        """The losses no operator has accepted; passes these and the accepted ones to the inbox as lost."""
        for (topic, partition), position in positions.items():
            if position.log.cluster_id != self.log.cluster_id:
                raise UsageError(
                    f"{self.subject.consumer} has read {topic}/{partition} of Kafka cluster {position.log.cluster_id}, "
                    f"but this is {self.log.cluster_id}: do KAFKA_BOOTSTRAP_SERVERS and the database belong together?"
                )
        topics = self.subject.handlers.topics
        if not await self.log.begins(topics):
            raise UsageError(f"Kafka has no {' or '.join(topics)}: is KAFKA_TOPIC_PREFIX right?")
        logs = {place: position.log for place, position in positions.items()}
        unaccepted = (await examine(self.raw, self.settings, self.subject.consumer, logs)).losses
        self.report.notes += [f"Kafka has lost records: {loss.why}" for loss in unaccepted]
        accepted = await losses.spans(self.raw, self.subject.consumer)
        await self.inbox.lose(
            {*accepted, *((loss.topic, loss.partition, loss.first, loss.until) for loss in unaccepted)}
        )
        return unaccepted

    async def _spans(
        self, positions: Mapping[Place, Position], since: datetime | None, lost: Mapping[Place, int]
    ) -> Spans:
        """The spans the consumer has read, as of the snapshot; counts records it has not read yet as pending.

        Records from the first `lost` offset of a partition on are pending too: other records have their offsets now.
        """
        topics = self.subject.handlers.topics
        begins, ends = await self.log.begins(topics, since), await self.log.ends(topics)
        spans = {}
        for key in begins:
            begin = max(begins[key], positions[key].inbox_from if key in positions else 0)
            read = max(begin, positions[key].log.next if key in positions else 0)
            read = min(read, max(begin, lost.get(key, read)))
            spans[key] = begin, min(read, ends[key])
            self.report.pending += max(0, ends[key] - read)
        return spans

    async def _take(self, records: Sequence[Record]) -> None:
        entries = [decoded(record, self.subject.handlers) for record in records]
        handled = [entry for entry in entries if entry.event is not None or entry.dead is not None]
        self.report.outcomes[IGNORED] += len(entries) - len(handled)
        with_outcomes = list(zip(handled, await self.inbox.outcomes(handled), strict=True))
        for entry, outcome in with_outcomes:
            self.report.outcomes[outcome] += 1
            if outcome == MISSING:
                self.report.find(Fault.MISSING, entry.record.topic, _describe(entry), entry)
        seen = (APPLIED, REDRIVEN, AGAIN)
        applied = [entry for entry, outcome in with_outcomes if outcome in seen and entry.event is not None]
        for entry, error in await self.rebuild.apply(applied):
            self.report.find(
                Fault.REFUSED, entry.record.topic, _describe(entry) | {"error": type(error).__name__}, entry
            )
        if self.promises:
            await self.outbox.promise()

    async def _take_later_decisions(self, positions: Mapping[Place, Position]) -> None:
        """Apply the decisions that the consumer has not read yet: the snapshot has most of them."""
        handlers, consumer = self.subject.handlers, self.subject.consumer
        topics = fold.own_topics(consumer, handlers)
        begins, ends = await self.log.begins(topics), await self.log.ends(topics)
        read = {place: positions[place].log.next if place in positions else 0 for place in ends}
        async for records in self.log.read({place: (max(begins[place], read[place]), ends[place]) for place in ends}):
            await self.rebuild.apply([decoded(record, handlers) for record in records])
        waiting = await fold.unsent(self.raw, consumer, handlers)
        await self.rebuild.apply([decoded(record, handlers) for record in waiting])

    async def _check_inbox(self, spans: Spans) -> None:
        self.show("checking the inbox", 0, 0)
        async for row in self.inbox.overtaken():
            self.report.find(Fault.OUT_OF_ORDER, row["topic"], dict(row))
        async for row in self.inbox.unexplained(spans):
            event = dict(row)
            fault = Fault.GONE if event.pop("lost") else Fault.UNEXPLAINED
            self.report.find(fault, row["topic"] if fault is Fault.GONE else "inbox", event)

    async def _check_published(self, spans: Spans, since: datetime | None) -> None:
        """Report promised records that are neither in the snapshot's outbox nor in Kafka (read to the end)."""
        await self.outbox.promise_dead_letters(spans)
        topics = await self.outbox.topics()
        begins, ends = await self.log.begins(topics, since), await self.log.ends(topics)
        done, total = 0, sum(ends.values()) - sum(begins.values())
        await self.outbox.keep_waiting()
        async for records in self.log.read({key: (begin, ends[key]) for key, begin in begins.items()}):
            await self.outbox.keep(records)
            done += len(records)
            self.show("checking published events", done, total)
        self.report.published = await self.outbox.promised()
        cut = {topic for (topic, _), begin in begins.items() if begin and since is None}
        self.report.notes += [
            f"{topic} no longer has its first records: publication cannot be checked there" for topic in cut
        ]
        async for row in self.outbox.unpublished():
            if row["topic"] not in cut:
                self.report.find(Fault.UNPUBLISHED, row["topic"], dict(row))

    def _note_what_was_left_out(self, since: datetime | None) -> None:
        why = (
            f"read only since {since:%Y-%m-%d %H:%M:%S%z}"
            if since
            else "the log or the inbox does not reach back to the first event"
        )
        left_out = [effect.name for effect in self.subject.effects if not effect.per_event]
        if left_out:
            self.report.notes.append(f"{why}: {', '.join(left_out)} cannot be compared, published events not checked")
        self.report.notes.append(f"{why}: rows without an event are not reported, they may come from earlier events")


def _describe(entry: Entry) -> dict[str, Any]:
    """The record's offset and the event's identity, as an example in a finding."""
    record, claim = entry.record, entry.claim
    example = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    if claim is None or entry.event is None:
        return example
    return example | {"type": claim.type, "source": entry.event.meta.source, "id": entry.event.meta.id}
