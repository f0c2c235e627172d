"""The check of one consumer: its log and its database, as they were at one moment."""

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
from touchpoint.kafka import log as logs
from touchpoint.kafka.batch import Entry, decoded
from touchpoint.kafka.identity import examine
from touchpoint.kafka.log import Log, Spans
from touchpoint.verify.compare import compare
from touchpoint.verify.inbox import AGAIN, APPLIED, MISSING, REDRIVEN, Inbox, Position
from touchpoint.verify.outbox import Outbox
from touchpoint.verify.rebuild import Rebuild
from touchpoint.verify.report import Fault, Report
from touchpoint.verify.snapshot import snapshot
from touchpoint.verify.subject import Subject

IGNORED = "ignored"
"""The outcome of a record whose type the consumer does not handle."""

Show = Callable[[str, int, int], None]
"""Called with what is being done, how many records of it are done, and of how many."""


async def verify(
    subject: Subject, dsn: str, kafka: KafkaSettings, *, since: datetime | None = None, show: Show = lambda *_: None
) -> Report:
    """Check a consumer from the log's beginning, or what was appended from `since` on, to where it stands now.

    Raises UsageError when Kafka or the database cannot be reached, or do not belong together.
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

    async def run(self, since: datetime | None) -> Report:
        positions = await self.inbox.positions()
        lost = await self._lost(positions)
        spans = await self._spans(positions, since, {(loss.topic, loss.partition): loss.first for loss in lost})
        pruned = any(position.inbox_from for position in positions.values())
        whole = not (pruned or await self.inbox.begins_before(spans))
        done, total = 0, sum(end - start for start, end in spans.values())
        async for records in self.log.read(spans):
            await self._take(records)
            done += len(records)
            self.show("reading the log", done, total)
        await self._look_at_inbox(
            {
                place: (start, max(end, positions[place].log.next))
                for place, (start, end) in spans.items()
                if place in positions
            }
        )
        for effect in self.subject.effects:
            if whole or effect.per_event:
                self.show(f"comparing {effect.name}", 0, 0)
                await compare(self.raw, effect, self.report, made="pg_temp", whole=whole)
        await self._look_for_published(spans, since)
        if not whole:
            self._say_what_was_left_out(since)
        return self.report

    async def _lost(self, positions: Mapping[Place, Position]) -> Sequence[Loss]:
        """What Kafka has lost and nobody has accepted; that counts as lost, and what was accepted before."""
        for (topic, partition), position in positions.items():
            if position.log.cluster_id != self.log.cluster_id:
                raise UsageError(
                    f"{self.subject.consumer} has read {topic}/{partition} of Kafka cluster {position.log.cluster_id}, "
                    f"this is {self.log.cluster_id}: do KAFKA_BOOTSTRAP_SERVERS and the database belong together?"
                )
        topics = self.subject.handlers.topics
        if not await self.log.begins(topics):
            raise UsageError(f"Kafka has no {' or '.join(topics)}: is KAFKA_TOPIC_PREFIX right?")
        logs = {place: position.log for place, position in positions.items()}
        found = (await examine(self.raw, self.settings, self.subject.consumer, logs)).losses
        self.report.notes += [f"Kafka has lost records: {loss.why}" for loss in found]
        known = await losses.spans(self.raw, self.subject.consumer)
        await self.inbox.lose({*known, *((loss.topic, loss.partition, loss.first, loss.until) for loss in found)})
        return found

    async def _spans(
        self, positions: Mapping[Place, Position], since: datetime | None, lost: Mapping[Place, int]
    ) -> Spans:
        """What the consumer has read, as of the snapshot; what it has not come to yet is counted as pending.

        So is what lies at offsets used again, from where a partition is `lost`.
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
        found = list(zip(handled, await self.inbox.outcomes(handled), strict=True))
        for entry, outcome in found:
            self.report.outcomes[outcome] += 1
            if outcome == MISSING:
                self.report.find(Fault.MISSING, entry.record.topic, _told(entry), entry)
        seen = (APPLIED, REDRIVEN, AGAIN)
        applied = [entry for entry, outcome in found if outcome in seen and entry.event is not None]
        for entry, error in await self.rebuild.apply(applied):
            self.report.find(Fault.REFUSED, entry.record.topic, _told(entry) | {"error": type(error).__name__}, entry)
        await self.outbox.promise()

    async def _look_at_inbox(self, spans: Spans) -> None:
        self.show("looking through the inbox", 0, 0)
        async for row in self.inbox.overtaken():
            self.report.find(Fault.OUT_OF_ORDER, row["topic"], dict(row))
        async for row in self.inbox.unexplained(spans):
            event = dict(row)
            fault = Fault.GONE if event.pop("lost") else Fault.UNEXPLAINED
            self.report.find(fault, row["topic"] if fault is Fault.GONE else "inbox", event)

    async def _look_for_published(self, spans: Spans, since: datetime | None) -> None:
        """What is no longer in the snapshot's outbox is in Kafka by now, so its topics are read to their ends."""
        await self.outbox.promise_dead_letters(spans)
        topics = await self.outbox.topics()
        begins, ends = await self.log.begins(topics, since), await self.log.ends(topics)
        done, total = 0, sum(ends.values()) - sum(begins.values())
        await self.outbox.keep_waiting()
        async for records in self.log.read({key: (begin, ends[key]) for key, begin in begins.items()}):
            await self.outbox.keep(records)
            done += len(records)
            self.show("looking for what was published", done, total)
        self.report.published = await self.outbox.promised()
        cut = {topic for (topic, _), begin in begins.items() if begin and since is None}
        self.report.notes += [f"{topic} has lost its beginning: not all can be looked for there" for topic in cut]
        async for row in self.outbox.unpublished():
            if row["topic"] not in cut:
                self.report.find(Fault.UNPUBLISHED, row["topic"], dict(row))

    def _say_what_was_left_out(self, since: datetime | None) -> None:
        why = f"read only since {since:%Y-%m-%d %H:%M:%S%z}" if since else "the log or the inbox has lost its beginning"
        left_out = [effect.name for effect in self.subject.effects if not effect.per_event]
        if left_out:
            self.report.notes.append(f"{why}: {', '.join(left_out)} cannot be made anew")
        self.report.notes.append(f"{why}: a row without an event cannot be told from an older one")


def _told(entry: Entry) -> dict[str, Any]:
    """Where a record stands, and which event it is."""
    record, claim = entry.record, entry.claim
    told = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    if claim is None or entry.event is None:
        return told
    return told | {"type": claim.type, "source": entry.event.meta.source, "id": entry.event.meta.id}
