"""Freezes a window of times or offsets into offset ranges. An incomplete window is refused, never shortened."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.base.errors import NotFoundError, UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.db.offsets import Place
from touchpoint.db.replays import Range
from touchpoint.kafka.log import partition
from touchpoint.replay.selection import Bound, Window

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Standing:
    """Offsets of a partition: log begin and end, the consumer's next, and the first covered by the inbox."""

    place: Place
    begin: int
    end: int
    next: int
    inbox_from: int

    def __str__(self) -> str:
        return f"{self.place[0]}/{self.place[1]}"


@dataclass(frozen=True, slots=True)
class First:
    """The first record since a time, as Kafka returned it."""

    offset: int
    moment: datetime


def start_of(log: Standing, asked: int | None, first: First | None) -> int:
    """The start of a window in a partition: the offset `asked`, else the first record since the window's time.

    Raises UsageError if Kafka may have deleted records of the window, or the inbox no longer covers them.
    """
    start = _by_offset(log, asked) if asked is not None else _by_time(log, first)
    if start < log.inbox_from:
        raise UsageError(
            f"{log}: what was applied before offset {log.inbox_from} is no longer known (the inbox was pruned), so "
            f"{start} would be applied again: begin there (--from {log}/{log.inbox_from})"
        )
    return start


def _by_offset(log: Standing, asked: int) -> int:
    if asked < log.begin:
        raise UsageError(f"{log}: records {asked} to {log.begin - 1} are gone: retention has dropped them, the log "
                         f"begins at {log.begin}")  # fmt: skip
    if asked > log.end:
        raise UsageError(f"{log}: the log ends at {log.end}, before {asked}")
    return asked


def _by_time(log: Standing, first: First | None) -> int:
    if log.begin > 0 and log.begin == log.end:
        raise UsageError(f"{log}: all its records are gone, and so may be some since then: leave it out (--partition)")
    if first is None:
        return log.end
    if first.offset == log.begin > 0:
        raise UsageError(
            f"{log}: records before {log.begin} are gone, and so may be some since then; the first left is of "
            f"{first.moment:%Y-%m-%dT%H:%M:%SZ}: begin with it (--from {log}/{log.begin}), or leave the partition out "
            "(--partition)"
        )
    return first.offset


def end_of(log: Standing, asked: int | None, first: First | None) -> tuple[int, int]:
    """The end of the window (exclusive), and the number of its records the live consumer has not read yet.

    Raises UsageError if the offset `asked` is behind the end of the log.
    """
    if asked is not None and asked > log.end:
        raise UsageError(f"{log}: the log ends at {log.end}, before {asked}")
    wanted = asked if asked is not None else log.end if first is None else first.offset
    return min(wanted, log.next), max(0, wanted - log.next)


async def freeze(
    raw: asyncpg.Connection,
    kafka: AIOKafkaConsumer,
    settings: KafkaSettings,
    consumer: str,
    window: Window,
) -> tuple[list[Range], int]:
    """The offset ranges of the window, and the number of its records the live consumer has not read yet.

    Without a start time, only the partitions with a start offset are included. Raises UsageError, also for an
    empty window.
    """
    since, until = window.since, window.until
    _refuse_empty(since, until)
    logs = await standing(raw, kafka, settings, consumer)
    for place in {**since.places, **until.places}:
        if place not in logs:
            raise UsageError(f"{consumer} does not read {place[0]}/{place[1]}: it reads {_topics(logs)}")
    meant = [
        log
        for place, log in sorted(logs.items())
        if (not window.partitions or place[1] in window.partitions) and (since.moment or place in since.places)
    ]
    firsts, lasts = [await _first(kafka, settings, meant, moment) for moment in (since.moment, until.moment)]
    ranges, behind = [], 0
    for log in meant:
        start = start_of(log, since.places.get(log.place), firsts.get(log.place))
        end, yet = end_of(log, until.places.get(log.place), lasts.get(log.place))
        behind += min(yet, max(0, end + yet - start))
        if start < end:
            ranges.append(Range(*log.place, start, end))
    return ranges, behind


def _refuse_empty(since: Bound, until: Bound) -> None:
    if since.moment and until.moment and until.moment <= since.moment:
        raise UsageError(
            f"the window ends at {until.moment:{_TIME}}, not after its beginning at {since.moment:{_TIME}}"
        )
    if since.moment and since.moment > datetime.now(UTC):
        raise UsageError(f"the window begins at {since.moment:{_TIME}}: that is in the future")
    for place, begin in since.places.items():
        if until.places.get(place, begin) < begin:
            raise UsageError(
                f"the window ends at {place[0]}/{place[1]}/{until.places[place]}, before it begins at {begin}"
            )


async def standing(
    raw: asyncpg.Connection, kafka: AIOKafkaConsumer, settings: KafkaSettings, consumer: str
) -> dict[Place, Standing]:
    """The offsets of each partition the consumer reads. Raises NotFoundError if it has read none."""
    rows = await raw.fetch("SELECT topic, partition, next, inbox_from FROM offsets WHERE consumer = $1", consumer)
    if not rows:
        raise NotFoundError(f"no consumer {consumer} here has read anything: see `touchpoint consumer list`")
    partitions = [partition(settings, (row["topic"], row["partition"])) for row in rows]
    begins, ends = await kafka.beginning_offsets(partitions), await kafka.end_offsets(partitions)
    return {
        (row["topic"], row["partition"]): Standing(
            (row["topic"], row["partition"]), begins[tp], ends[tp], row["next"], row["inbox_from"]
        )
        for row, tp in zip(rows, partitions, strict=True)
    }


async def _first(
    kafka: AIOKafkaConsumer, settings: KafkaSettings, logs: Collection[Standing], moment: datetime | None
) -> dict[Place, First]:
    """The first record of each partition that was appended at that time or later, if there is one."""
    if moment is None or not logs:
        return {}
    places: dict[TopicPartition, Place] = {partition(settings, log.place): log.place for log in logs}
    firsts = await kafka.offsets_for_times(dict.fromkeys(places, max(0, int(moment.timestamp() * 1000))))
    return {
        places[tp]: First(first.offset, datetime.fromtimestamp(first.timestamp / 1000, UTC))
        for tp, first in firsts.items()
        if first is not None
    }


def _topics(logs: Collection[Place]) -> str:
    return ", ".join(sorted({topic for topic, _ in logs}))
