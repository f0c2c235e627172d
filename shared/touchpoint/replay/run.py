"""Executes one replay: reads its offset ranges without a consumer group, and applies them batch by batch."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from touchpoint.base import telemetry
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.db import losses, offsets, replays
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.db.offsets import Move, Place
from touchpoint.db.replays import Range, Replay
from touchpoint.kafka import admin
from touchpoint.kafka.batch import Batches, Entry, HaltError, decoded, in_lanes
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.log import partition
from touchpoint.kafka.reader import BATCH_BYTES, BATCH_RECORDS, DECODE_CHUNK, POLL_MS, POLL_MS_AHEAD, read_record
from touchpoint.replay.fence import ReplayFence
from touchpoint.replay.pace import Pace
from touchpoint.replay.selection import Selection

LAG_SECONDS = 1.0
"""Interval in seconds between two checks of the live consumer's lag."""
SEEK_FROM = 1000
"""A gap of at least this many offsets is skipped by seeking, which is then faster than reading through it."""


@dataclass(slots=True)
class MaxErrors:
    """Stops a replay before the event whose failure exceeds the number allowed."""

    allowed: int
    failed: int = 0
    may_skip: int = 0

    def exceeded_by(self, outcomes: Sequence[bool]) -> str | None:
        """Why these outcomes, added to the failures so far, exceed the limit; None if they do not."""
        if self.failed + sum(outcomes) > self.allowed:
            return f"more than {self.allowed} events failed"
        return None

    def count(self, outcomes: Sequence[bool]) -> None:
        """Count the failures of a committed batch."""
        self.failed += sum(outcomes)


class Run:
    """A replay, resumed from its checkpoints: `prepare`, `check_log`, then `step` until `finished`."""

    def __init__(
        self,
        replay: Replay,
        handlers: Handlers,
        kafka: AIOKafkaConsumer,
        settings: KafkaSettings,
        sessions: Sessions,
        *,
        fence: ReplayFence,
        alone: bool = False,
    ) -> None:
        """`alone`: all sessions use one connection, which blocks others: no concurrent work, and no pauses."""
        self._replay = replay
        self._handlers = handlers
        self._kafka = kafka
        self._settings = settings
        self._sessions = sessions
        self._selection = msgspec.convert(replay.filter, Selection)
        self._fence = fence
        self._alone = alone
        self._limit = MaxErrors(replay.max_errors)
        self._pace = Pace(None if alone else replay.rate)
        self._batches = Batches(
            replay.consumer, handlers, sessions, self._limit, fence, telemetry.REPLAYED, operation="replay"
        )
        self._ranges: dict[Place, Range] = {}
        """The ranges of the partitions that are not finished."""
        self._starts: dict[Place, int] = {}
        """The checkpoints of these partitions."""
        self._read: dict[Place, int] = {}
        """The next offset to read in each of these partitions."""
        self._ahead: list[Entry] = []
        """The entries read while the previous batch was applied."""
        self._lag_seen = 0.0

    @property
    def finished(self) -> bool:
        """Whether all partitions are finished."""
        return not self._ranges

    async def prepare(self) -> None:
        """Load the checkpoints and seek to them."""
        async with transaction(self._sessions) as session:
            checkpoints = await replays.checkpoints(session, self._replay.id)
        self._limit.failed = sum(checkpoint.failed for checkpoint in checkpoints)
        unfinished = [checkpoint for checkpoint in checkpoints if checkpoint.next < checkpoint.range.end]
        self._ranges = {checkpoint.place: checkpoint.range for checkpoint in unfinished}
        self._starts = {checkpoint.place: checkpoint.next for checkpoint in unfinished}
        self._read = dict(self._starts)
        self._ahead = []
        if self.finished:
            return
        self._kafka.assign([self._partition(place) for place in self._ranges])
        for place, start in self._starts.items():
            self._kafka.seek(self._partition(place), start)
        await self._pass_over()

    async def step(self) -> float:
        """Apply the batch read before while reading the next one; returns the seconds to pause.

        Raises what `Batches.apply` raises; the batch read ahead must then be discarded.
        """
        begun = time.monotonic()
        await self._look_at_lag()
        entries = self._ahead or await self._read_batch()
        await self._apply_and_read_on(entries)
        await self._pass_over()
        events = sum(bool(entry.event or entry.dead or entry.settled) for entry in entries)
        return self._pace.seconds(events, time.monotonic() - begun)

    async def check_log(self) -> None:
        """Raise HaltError if the log is no longer the one that was planned."""
        if self.finished:
            return
        async with transaction(self._sessions) as session:
            if lost := await losses.unaccepted(session, self._replay.consumer):
                raise HaltError(f"Kafka has lost records, see `touchpoint consumer list`: {lost[0].why}")
        if (cluster := await admin.cluster_id(self._settings)) != self._replay.cluster_id:
            raise HaltError(f"it was planned on Kafka cluster {self._replay.cluster_id}, but this is cluster {cluster}")
        partitions = [self._partition(place) for place in self._ranges]
        begins, ends = await self._kafka.beginning_offsets(partitions), await self._kafka.end_offsets(partitions)
        for place, planned in self._ranges.items():
            tp, following = self._partition(place), self._starts[place]
            if begins[tp] > following:
                raise HaltError(f"{place[0]}/{place[1]}: records {following} to {begins[tp] - 1} are gone")
            if ends[tp] < planned.end:
                raise HaltError(
                    f"{place[0]}/{place[1]}: the log ends at {ends[tp]}, the plan at {planned.end}: it was truncated"
                )

    async def _apply_and_read_on(self, entries: list[Entry]) -> None:
        applying = asyncio.create_task(self._apply(entries))
        try:
            self._ahead = [] if self._alone else await self._read_batch(applying)
        except asyncio.CancelledError:
            applying.cancel()
            raise
        finally:
            await applying

    async def _apply(self, entries: list[Entry]) -> None:
        if not entries:
            return
        if self._alone:
            await self._batches.apply(entries, self._starts)
        else:
            await in_lanes(entries, lambda lane: self._batches.apply(lane, self._starts))

    async def _read_batch(self, applying: asyncio.Task[None] | None = None) -> list[Entry]:
        """Read until `applying` is done or the batch is full; without it, or if it is done already, poll once."""
        entries, limit, size = list[Entry](), self._pace.records(BATCH_RECORDS), 0
        while len(entries) < limit and size < BATCH_BYTES:
            idle = applying is None or applying.done()
            wait = POLL_MS if idle and not entries else POLL_MS_AHEAD
            fetched = await self._kafka.getmany(timeout_ms=wait, max_records=limit - len(entries))
            for tp in sorted(fetched):
                entries += await self._entries(tp, fetched[tp])
                size += sum(len(record.value or b"") for record in fetched[tp])
            if idle:
                break
        return entries

    async def _entries(self, tp: TopicPartition, fetched: list[ConsumerRecord]) -> list[Entry]:
        """The fetched records of a partition, up to the end of its range; those not selected become ignored entries."""
        place = self._place(tp)
        planned = self._ranges.get(place)
        if planned is None:
            return []
        await self._check_gap(tp, self._read[place], fetched[0].offset)
        self._read[place] = fetched[-1].offset + 1
        records = [read_record(place[0], record) for record in fetched if record.offset < planned.end]
        wanted = [self._wants(planned, record) for record in records]
        settled = await self._settled([record for record, want in zip(records, wanted, strict=True) if want])
        entries: list[Entry] = []
        for number, (record, want) in enumerate(zip(records, wanted, strict=True)):
            if not want:
                entries.append(Entry(record))
            elif record.offset in settled:
                entries.append(Entry(record, settled="duplicate"))
            else:
                entries.append(decoded(record, self._handlers))
            if number % DECODE_CHUNK == 0:
                await asyncio.sleep(0)
        return entries

    def _wants(self, planned: Range, record: Record) -> bool:
        if planned.places is not None:
            index = bisect_left(planned.places, record.offset)
            if index == len(planned.places) or planned.places[index] != record.offset:
                return False
        return self._selection.matches(record)

    async def _settled(self, records: Sequence[Record]) -> set[int]:
        """The offsets of the records that need no decoding: usually most of a repair's window."""
        async with transaction(self._sessions) as session:
            return await self._fence.settled(await raw_connection(session), records)

    async def _check_gap(self, tp: TopicPartition, expected: int, first: int) -> None:
        if first > expected and (begin := (await self._kafka.beginning_offsets([tp]))[tp]) > expected:
            raise HaltError(f"{tp.topic}/{tp.partition}: records {expected} to {begin - 1} are gone")

    async def _pass_over(self) -> None:
        """Finish partitions without records left in their range, and seek over large gaps between chosen offsets."""
        ended, waiting = [], {(entry.record.topic, entry.record.partition) for entry in self._ahead}
        for place, planned in self._ranges.items():
            if place in waiting:
                continue
            position = max(self._read[place], await self._kafka.position(self._partition(place)))
            following = _following(planned, position)
            if following >= planned.end:
                ended.append(place)
            elif following - position >= SEEK_FROM:
                self._kafka.seek(self._partition(place), following)
                self._read[place] = following
        behind = [place for place in ended if self._starts[place] < self._ranges[place].end]
        if behind:
            moves = [Move(*place, self._starts[place], self._ranges[place].end) for place in behind]
            async with transaction(self._sessions) as session:
                await self._fence.advance(await raw_connection(session), moves)
        for place in ended:
            self._kafka.pause(self._partition(place))
            del self._ranges[place]

    async def _look_at_lag(self) -> None:
        if self._alone or time.monotonic() - self._lag_seen < LAG_SECONDS:
            return
        async with transaction(self._sessions) as session:
            positions = await offsets.load(await raw_connection(session), self._replay.consumer)
        ends = await self._kafka.end_offsets([self._partition(place) for place in positions])
        self._pace.take_in(
            sum(max(0, ends[self._partition(place)] - position.next) for place, position in positions.items())
        )
        self._lag_seen = time.monotonic()

    def _partition(self, place: Place) -> TopicPartition:
        return partition(self._settings, place)

    def _place(self, tp: TopicPartition) -> Place:
        return tp.topic.removeprefix(self._settings.topic_prefix), tp.partition


def _following(planned: Range, position: int) -> int:
    """The first selected offset from `position` on; the range's end if there is none."""
    if planned.places is None:
        return min(position, planned.end)
    index = bisect_left(planned.places, position)
    return planned.places[index] if index < len(planned.places) else planned.end
