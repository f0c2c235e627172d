"""The check of one consumer: its log and its database, as they were at one moment."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from touchpoint.contracts.topics import WRITERS
from touchpoint.db.offsets import Place
from touchpoint.errors import UsageError
from touchpoint.kafka.batch import Entry, decoded
from touchpoint.kafka.codec import Record
from touchpoint.settings import KafkaSettings
from touchpoint.verify import log as logs
from touchpoint.verify.inbox import APPLIED, MISSING, Inbox, Position
from touchpoint.verify.log import Log, Spans
from touchpoint.verify.rebuild import Rebuild
from touchpoint.verify.report import Fault, Report
from touchpoint.verify.snapshot import snapshot
from touchpoint.verify.subject import Effect, Subject

IGNORED = "ignored"
"""The outcome of a record whose type the consumer does not handle."""

ERASED = "erased"
"""The outcome of a record that was left out because its customer is to be forgotten."""

Show = Callable[[str, int, int], None]
"""Called with what is being done, how many records of it are done, and of how many."""


async def verify(
    subject: Subject, dsn: str, kafka: KafkaSettings, *, since: datetime | None = None, show: Show = lambda *_: None
) -> Report:
    """Check a consumer from the log's beginning, or what was appended from `since` on, to where it stands now.

    Raises UsageError when Kafka or the database cannot be reached, or do not belong together.
    """
    async with (
        logs.connected(kafka, WRITERS) as log,
        snapshot(dsn, [*subject.tables, "outbox"]) as (connection, raw),
    ):
        check = _Check(subject, log, Inbox(raw, subject.consumer), Rebuild(connection, raw, subject.handlers), show)
        return await check.run(since)


class _Check:
    def __init__(self, subject: Subject, log: Log, inbox: Inbox, rebuild: Rebuild, show: Show) -> None:
        self._subject = subject
        self._log = log
        self._inbox = inbox
        self._rebuild = rebuild
        self._show = show
        self._report = Report(subject.consumer)
        self._erased: set[tuple[str, str]] = set()

    async def run(self, since: datetime | None) -> Report:
        self._erased = await self._inbox.erased()
        positions = await self._inbox.positions()
        spans = await self._spans(positions, since)
        pruned = any(position.inbox_from for position in positions.values())
        whole = not (pruned or await self._inbox.begins_before(spans))
        done, total = 0, sum(end - start for start, end in spans.values())
        async for records in self._log.read(spans):
            await self._take(records)
            done += len(records)
            self._show("read", done, total)
        await self._look_at_inbox(spans)
        for effect in self._subject.effects:
            if whole or effect.per_event:
                await self._compare(effect, whole=whole)
        await self._look_for_published(since)
        if not whole:
            self._say_what_was_left_out(since)
        return self._report

    async def _spans(self, positions: Mapping[Place, Position], since: datetime | None) -> Spans:
        """What the consumer has read, as of the snapshot; what it has not come to yet is counted as pending."""
        for (topic, partition), position in positions.items():
            if position.cluster_id != self._log.cluster_id:
                raise UsageError(
                    f"{self._subject.consumer} has read {topic}/{partition} of Kafka cluster {position.cluster_id}, "
                    f"this is {self._log.cluster_id}: do KAFKA_BOOTSTRAP_SERVERS and the database belong together?"
                )
        topics = self._subject.handlers.topics
        begins, ends = await self._log.begins(topics, since), await self._log.ends(topics)
        if not begins:
            raise UsageError(f"Kafka has no {' or '.join(topics)}: is KAFKA_TOPIC_PREFIX right?")
        spans = {}
        for key in begins:
            begin = max(begins[key], positions[key].inbox_from if key in positions else 0)
            read = max(begin, positions[key].next if key in positions else 0)
            spans[key] = begin, min(read, ends[key])
            self._report.pending += max(0, ends[key] - read)
        return spans

    async def _take(self, records: Sequence[Record]) -> None:
        entries = [decoded(record, self._subject.handlers) for record in records]
        handled = [entry for entry in entries if entry.event is not None or entry.dead is not None]
        self._report.outcomes[IGNORED] += len(entries) - len(handled)
        applied = []
        for entry, outcome in zip(handled, await self._inbox.outcomes(handled), strict=True):
            if outcome == MISSING and self._is_erased(entry):
                self._report.outcomes[ERASED] += 1
                continue
            self._report.outcomes[outcome] += 1
            if outcome == MISSING:
                self._report.find(Fault.MISSING, entry.record.topic, _told(entry))
            elif outcome == APPLIED and entry.event is not None:
                applied.append(entry)
        for entry, error in await self._rebuild.apply(applied):
            self._report.find(Fault.REFUSED, entry.record.topic, _told(entry) | {"error": type(error).__name__})
        await self._rebuild.promise()

    def _is_erased(self, entry: Entry) -> bool:
        event = entry.event
        return event is not None and (event.meta.tenant, getattr(event, "customer_id", None)) in self._erased

    async def _look_at_inbox(self, spans: Spans) -> None:
        self._show("inbox", 0, 0)
        async for row in self._inbox.overtaken():
            self._report.find(Fault.OUT_OF_ORDER, row["topic"], dict(row))
        async for row in self._inbox.unexplained(spans):
            self._report.find(Fault.UNEXPLAINED, "inbox", dict(row))

    async def _compare(self, effect: Effect, *, whole: bool) -> None:
        self._show(effect.name, 0, 0)
        self._report.rows[effect.name] = await self._rebuild.rows(effect)
        async for row in self._rebuild.differences(effect, whole=whole):
            self._report.find(_fault(row), effect.name, _difference(row, effect))

    async def _look_for_published(self, since: datetime | None) -> None:
        """What is no longer in the snapshot's outbox is in Kafka by now, so its topic is read to the end."""
        topics = await self._rebuild.topics()
        begins, ends = await self._log.begins(topics, since), await self._log.ends(topics)
        done, total = 0, sum(ends.values()) - sum(begins.values())
        await self._rebuild.publish_waiting()
        async for records in self._log.read({key: (begin, ends[key]) for key, begin in begins.items()}):
            await self._rebuild.publish([record.headers for record in records])
            done += len(records)
            self._show("published", done, total)
        self._report.published = await self._rebuild.promised()
        async for row in self._rebuild.unpublished():
            self._report.find(Fault.UNPUBLISHED, row["topic"], dict(row))

    def _say_what_was_left_out(self, since: datetime | None) -> None:
        why = f"read only since {since:%Y-%m-%d %H:%M:%S%z}" if since else "the log or the inbox has lost its beginning"
        left_out = [effect.name for effect in self._subject.effects if not effect.per_event]
        if left_out:
            self._report.notes.append(f"{why}: {', '.join(left_out)} cannot be made anew")
        self._report.notes.append(f"{why}: a row without an event cannot be told from an older one")


def _told(entry: Entry) -> dict[str, Any]:
    """Where a record stands, and which event it is."""
    record, claim = entry.record, entry.claim
    told = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return told | ({"event_id": claim.event_id, "type": claim.type} if claim else {})


def _fault(row: Mapping[str, Any]) -> Fault:
    if row["expected"] == 0:
        return Fault.UNEXPLAINED
    if row["stored"] == 0:
        return Fault.MISSING
    return Fault.TWICE if row["stored"] > row["expected"] else Fault.CHANGED


def _difference(row: Mapping[str, Any], effect: Effect) -> dict[str, Any]:
    told = {name: row[name] for name in effect.key}
    return told | ({"expected": row["expected_row"], "stored": row["stored_row"]} if effect.shown else {})
