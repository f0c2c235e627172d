"""Reads ahead: fetches and decodes the next batch while the database works on the previous one."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError

from touchpoint.contracts.record import Flawed, Record
from touchpoint.db.offsets import Place
from touchpoint.kafka.batch import Entry, HaltError, decoded
from touchpoint.kafka.client import LogConsumer
from touchpoint.kafka.handlers import Handlers

if TYPE_CHECKING:  # which reads records itself
    from touchpoint.kafka.assignment import Assignment

POLL_MS = 200
POLL_MS_AHEAD = 10
"""The poll timeout while a batch is being applied: short, so that the next batch can start as soon as it ends."""
BATCH_RECORDS = 4000
BATCH_BYTES = 16 * 1024 * 1024
"""The size limit of a batch. Two are in memory: the one being applied, and the one read ahead."""
DECODE_CHUNK = 100
"""Records decoded per yield to the event loop, 2 to 4 ms: heartbeats and the database run on the same loop."""


class Reader:
    """Reads and decodes the records of the ready partitions, from the next unread offset of each."""

    def __init__(self, kafka: LogConsumer, assignment: "Assignment", handlers: Handlers) -> None:
        self._kafka = kafka
        self._assignment = assignment
        self._handlers = handlers
        self._generation = assignment.generation
        self._next: dict[Place, int] = {}
        self._ahead: list[Entry] = []
        self._ahead_bytes = 0

    def take(self) -> list[Entry]:
        """Take the records read so far, in log order within each partition."""
        self._forget_if_stale()
        taken, self._ahead, self._ahead_bytes = self._ahead, [], 0
        return taken

    def waiting(self) -> set[Place]:
        """The partitions with records that were read but not taken yet."""
        return {(entry.record.topic, entry.record.partition) for entry in self._ahead}

    async def read(self, applying: asyncio.Task[None]) -> None:
        """Read until `applying` is done or the batch is full; if it is done already, poll once."""
        while len(self._ahead) < BATCH_RECORDS and self._ahead_bytes < BATCH_BYTES:
            idle = applying.done()
            fetched: dict[TopicPartition, list[ConsumerRecord]] = {}
            with suppress(NoOffsetForPartitionError):  # just assigned: it is seeked before it is read
                fetched = await self._kafka.getmany(
                    timeout_ms=POLL_MS if idle and not self._ahead else POLL_MS_AHEAD,
                    max_records=BATCH_RECORDS - len(self._ahead),
                )
            self._forget_if_stale()
            for tp in sorted(fetched):
                await self._keep(tp, fetched[tp])
            if idle:
                return

    def _forget_if_stale(self) -> None:
        """Discard the records read after a rebalance or an error: reading restarts at the offsets in PostgreSQL."""
        if self._generation != self._assignment.generation:
            self._generation = self._assignment.generation
            self._next, self._ahead, self._ahead_bytes = {}, [], 0

    async def _keep(self, tp: TopicPartition, fetched: list[ConsumerRecord]) -> None:
        """Decode the fetched records of a partition and add them to those read ahead."""
        place = self._assignment.place(tp)
        start = self._next.get(place, self._assignment.starts.get(place))
        generation = self._generation
        if start is None or generation != self._assignment.generation:
            return  # the partition is not ready (any more): the records are from before the seek
        if self._assignment.distrust_if_reconnected(self._kafka, [tp]):
            return
        await self._check_gap(tp, start, fetched[0].offset)
        if generation != self._assignment.generation:
            return
        fetched = await self._up_to_unreadable(tp, start, fetched)
        if not fetched:
            return
        for begin in range(0, len(fetched), DECODE_CHUNK):
            chunk = [decoded(read_record(place[0], r), self._handlers) for r in fetched[begin : begin + DECODE_CHUNK]]
            await asyncio.sleep(0)
            if generation != self._assignment.generation:
                return
            self._ahead += chunk
            self._ahead_bytes += sum(len(entry.record.value) for entry in chunk)
        self._next[place] = fetched[-1].offset + 1

    async def _check_gap(self, tp: TopicPartition, start: int, first: int) -> None:
        """Suspect the log if the first fetched offset does not follow on `start`.

        A gap is a transaction marker, or records deleted by retention before they were read. A jump back means that the
        log was truncated or recreated, and has new records at offsets already applied.
        """
        if first < start:
            self._assignment.suspect(
                f"{tp.topic}/{tp.partition}: Kafka returned record {first} instead of {start}: the log was truncated"
            )
        elif first > start and (begin := (await self._kafka.beginning_offsets([tp]))[tp]) > start:
            self._assignment.suspect(
                f"{tp.topic}/{tp.partition}: records {start} to {begin - 1} are gone: deleted before they were applied"
            )

    async def _up_to_unreadable(
        self, tp: TopicPartition, start: int, fetched: list[ConsumerRecord]
    ) -> list[ConsumerRecord]:
        """The records before the first unreadable batch. Once those are applied, raises HaltError for that batch.

        The consumer halts, and does not skip the batch, because it may contain events of many customers.
        """
        batches = ((index, record.value) for index, record in enumerate(fetched) if isinstance(record.value, Flawed))
        index, batch = next(((index, value) for index, value in batches if value.offsets is not None), (None, None))
        if batch is None:
            return fetched
        if index == 0 and self._assignment.starts.get(self._assignment.place(tp)) == start:
            await self._halt(tp, start, batch)
        with suppress(IllegalStateError):  # revoked meanwhile
            self._kafka.seek(tp, fetched[index - 1].offset + 1 if index else start)
        return fetched[:index]

    async def _halt(self, tp: TopicPartition, start: int, batch: Flawed) -> NoReturn:
        assert batch.offsets is not None
        topic, partition = self._assignment.place(tp)
        end = (await self._kafka.end_offsets([tp]))[tp]
        first = max(start, batch.offsets[0])
        last = max(first, min(batch.offsets[1], end - 1))
        place = f"{topic}/{partition}/{first}" + (f"-{last}" if last > first else "")
        raise HaltError(
            f"{place} cannot be read: {batch.fault}. See docs/runbooks/consumer-halted.md; to skip it: "
            f'touchpoint consumer resume {self._assignment.consumer} --past {place} --reason "…"'
        )


def read_record(topic: str, fetched: ConsumerRecord) -> Record:
    """The record of one fetched by aiokafka, under its logical topic."""
    value = b"" if fetched.value is None else fetched.value
    return Record(
        topic, fetched.key or b"", value, fetched.headers, fetched.partition, fetched.offset, fetched.timestamp
    )
