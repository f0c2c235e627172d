"""Reads ahead: the next batch is fetched and decoded while the database works on the one before."""

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
"""While a batch is being applied: what was read by its end is to be applied at once."""
BATCH_RECORDS = 4000
BATCH_BYTES = 16 * 1024 * 1024
"""A batch is full with these, too: one in work and one ahead are in memory."""
DECODE_CHUNK = 100
"""Records decoded before the event loop gets a turn, two to four milliseconds: heartbeats and the database share it."""


class Reader:
    """The records of the ready partitions, decoded, from where each is to be read on."""

    def __init__(self, kafka: LogConsumer, assignment: "Assignment", handlers: Handlers) -> None:
        self._kafka = kafka
        self._assignment = assignment
        self._handlers = handlers
        self._generation = assignment.generation
        self._next: dict[Place, int] = {}
        self._ahead: list[Entry] = []
        self._ahead_bytes = 0

    def take(self) -> list[Entry]:
        """What has been read and may be applied now, in log order within each partition."""
        self._forget_if_stale()
        taken, self._ahead, self._ahead_bytes = self._ahead, [], 0
        return taken

    def waiting(self) -> set[Place]:
        """The partitions of which records were read that nobody has taken yet."""
        return {(entry.record.topic, entry.record.partition) for entry in self._ahead}

    async def read(self, applying: asyncio.Task[None]) -> None:
        """Read until `applying` is done, a full batch at most; then until something came or for a moment."""
        while len(self._ahead) < BATCH_RECORDS and self._ahead_bytes < BATCH_BYTES:
            idle = applying.done()
            found: dict[TopicPartition, list[ConsumerRecord]] = {}
            with suppress(NoOffsetForPartitionError):  # just assigned: it is sought before anything is read
                found = await self._kafka.getmany(
                    timeout_ms=POLL_MS if idle and not self._ahead else POLL_MS_AHEAD,
                    max_records=BATCH_RECORDS - len(self._ahead),
                )
            self._forget_if_stale()
            for tp in sorted(found):
                await self._keep(tp, found[tp])
            if idle:
                return

    def _forget_if_stale(self) -> None:
        """After a rebalance or an error all is read again from where PostgreSQL says."""
        if self._generation != self._assignment.generation:
            self._generation = self._assignment.generation
            self._next, self._ahead, self._ahead_bytes = {}, [], 0

    async def _keep(self, tp: TopicPartition, found: list[ConsumerRecord]) -> None:
        place = self._assignment.place(tp)
        start = self._next.get(place, self._assignment.starts.get(place))
        generation = self._generation
        if start is None or generation != self._assignment.generation:
            return  # records of a partition that is not ready, or no longer, were read before the seek
        if self._assignment.distrust_if_reconnected(self._kafka, [tp]):
            return
        await self._check_gap(tp, start, found[0].offset)
        if generation != self._assignment.generation:
            return
        found = await self._up_to_unreadable(tp, start, found)
        if not found:
            return
        for begin in range(0, len(found), DECODE_CHUNK):
            chunk = [decoded(read_record(place[0], r), self._handlers) for r in found[begin : begin + DECODE_CHUNK]]
            await asyncio.sleep(0)
            if generation != self._assignment.generation:
                return
            self._ahead += chunk
            self._ahead_bytes += sum(len(entry.record.value) for entry in chunk)
        self._next[place] = found[-1].offset + 1

    async def _check_gap(self, tp: TopicPartition, start: int, first: int) -> None:
        """A jump past `start` is a transaction's marker, or data that retention took before we read it.

        A jump back is a log that was cut or made anew, and has new records at offsets that were applied.
        """
        if first < start:
            self._assignment.suspect(
                f"{tp.topic}/{tp.partition}: the next record was to be {start}, Kafka gives {first}: the log was cut"
            )
        elif first > start and (begin := (await self._kafka.beginning_offsets([tp]))[tp]) > start:
            self._assignment.suspect(
                f"{tp.topic}/{tp.partition}: records {start} to {begin - 1} are gone, never applied"
            )

    async def _up_to_unreadable(
        self, tp: TopicPartition, start: int, found: list[ConsumerRecord]
    ) -> list[ConsumerRecord]:
        """The records before a batch that cannot be read. Once they are applied, raises HaltError for that batch.

        It halts because the batch may hold events of many customers.
        """
        batches = ((index, record.value) for index, record in enumerate(found) if isinstance(record.value, Flawed))
        index, batch = next(((index, value) for index, value in batches if value.offsets is not None), (None, None))
        if batch is None:
            return found
        if index == 0 and self._assignment.starts.get(self._assignment.place(tp)) == start:
            await self._halt(tp, start, batch)
        with suppress(IllegalStateError):  # another's by now
            self._kafka.seek(tp, found[index - 1].offset + 1 if index else start)
        return found[:index]

    async def _halt(self, tp: TopicPartition, start: int, batch: Flawed) -> NoReturn:
        assert batch.offsets is not None
        topic, partition = self._assignment.place(tp)
        end = (await self._kafka.end_offsets([tp]))[tp]
        first = max(start, batch.offsets[0])
        last = max(first, min(batch.offsets[1], end - 1))
        place = f"{topic}/{partition}/{first}" + (f"-{last}" if last > first else "")
        raise HaltError(
            f"{place} cannot be read: {batch.fault}. See docs/runbooks/consumer-halted.md; to go on without it: "
            f'touchpoint consumer resume {self._assignment.consumer} --past {place} --reason "…"'
        )


def read_record(topic: str, found: ConsumerRecord) -> Record:
    """What was read, under its logical topic."""
    value = b"" if found.value is None else found.value
    return Record(topic, found.key or b"", value, found.headers, found.partition, found.offset, found.timestamp)
