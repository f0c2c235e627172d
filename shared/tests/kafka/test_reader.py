"""Reading ahead: no record is read twice, skipped, kept after a rebalance, or reported as applied too early."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.kafka import reader as reader_module
from touchpoint.kafka.assignment import Assignment
from touchpoint.kafka.batch import HaltError
from touchpoint.kafka.reader import Reader
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

TOPIC = "touchpoints.v1"


@pytest.fixture
def reading(log, ledger):
    """A context manager: a reader of partition 0 that starts at an offset, and its assignment."""

    @asynccontextmanager
    async def run(start=0):
        client = AIOKafkaConsumer(**log.settings.client_options(), auto_offset_reset="earliest")
        await client.start()
        partition = TopicPartition(log.settings.topic_prefix + TOPIC, 0)
        client.assign([partition])
        assignment = Assignment("ledger-svc", log.settings, ledger.sessions)
        assignment.on_partitions_assigned([partition])
        await assignment.prepare(client)
        assignment.starts[TOPIC, 0] = start
        try:
            yield Reader(client, assignment, ledger.handlers), assignment
        finally:
            await client.stop()

    return run


async def _nothing():
    pass


async def _read(reader):
    done = asyncio.create_task(_nothing())
    await done
    await reader.read(done)
    return [entry.record.offset for entry in reader.take()]


def numbered(count):
    return [feedback(id=f"e{n}") for n in range(count)]


async def test_records_read_while_a_batch_is_applied_form_the_next_batch(log, reading):
    async with reading() as (reader, _):
        applied = asyncio.Event()
        applying = asyncio.create_task(applied.wait())
        task = asyncio.create_task(reader.read(applying))
        for event in numbered(5):
            await log.append(event)
        await eventually(lambda: len(reader._ahead) == 5)
        applied.set()
        await task
        assert [entry.record.offset for entry in reader.take()] == [0, 1, 2, 3, 4]
        assert reader.take() == []


async def test_at_most_one_batch_is_read_ahead(log, reading, monkeypatch):
    monkeypatch.setattr(reader_module, "BATCH_RECORDS", 3)
    await log.append(*numbered(8))
    async with reading() as (reader, _):
        never = asyncio.create_task(asyncio.Event().wait())
        await reader.read(never)
        never.cancel()
        assert [entry.record.offset for entry in reader.take()] == [0, 1, 2]
        assert await _read(reader) == [3, 4, 5]


async def test_the_bytes_of_a_batch_are_bounded(log, reading, monkeypatch):
    monkeypatch.setattr(reader_module, "BATCH_BYTES", 1)
    await log.append(*numbered(1))
    async with reading() as (reader, _):
        never = asyncio.create_task(asyncio.Event().wait())
        await reader.read(never)
        await log.append(*numbered(1))
        await reader.read(never)
        never.cancel()
        assert [entry.record.offset for entry in reader.take()] == [0]


async def test_records_read_before_a_rebalance_are_discarded(log, reading):
    await log.append(*numbered(4))
    async with reading() as (reader, assignment):
        await reader.read(asyncio.create_task(_nothing()))
        assignment.distrust()
        assert reader.take() == []


async def test_records_of_a_partition_that_is_not_ready_are_discarded(log, reading):
    await log.append(*numbered(4))
    async with reading() as (reader, assignment):
        assignment.starts.clear()
        assert await _read(reader) == []


async def test_an_offset_lower_than_expected_halts_the_consumer(log, reading):
    """In this way a running consumer detects a log that was truncated and has grown again."""
    await log.append(*numbered(5))
    async with reading(start=6) as (reader, assignment):
        assert await _read(reader) == []
        assert assignment.starts == {}
        with pytest.raises(HaltError, match="Kafka returned record 0 instead of 6: the log was truncated"):
            await assignment.prepare(reader._kafka)


async def test_after_a_reconnect_the_log_is_checked_before_records_are_kept(log, reading):
    await log.append(*numbered(2))
    async with reading() as (reader, assignment):
        assert await _read(reader) == [0, 1]
        for connection in list(reader._kafka._client._conns.values()):
            connection.close()
        await log.append(*numbered(2))

        async def examined():
            assert await _read(reader) == []
            return not assignment.starts

        await eventually(examined)
        await assignment.prepare(reader._kafka)
        assert assignment.starts == {(TOPIC, 0): 0}  # none of the records was applied


async def test_a_partition_is_not_read_through_while_its_records_wait_to_be_applied(
    log, ledger, consuming, monkeypatch
):
    """Else a clock would fire although the reply that stops it has been read and only waits to be applied."""
    standing = []
    mark = Assignment.mark_read_through

    async def noted(self, reached):
        if any(partition == 0 for _, partition, _, _ in reached):
            standing.append((await ledger.next())[0])
        await mark(self, reached)

    monkeypatch.setattr(Assignment, "mark_read_through", noted)
    monkeypatch.setattr("touchpoint.kafka.consumer.HORIZON_SECONDS", 0.01)
    monkeypatch.setattr(reader_module, "BATCH_RECORDS", 20)
    await log.append(*numbered(200))
    async with consuming():
        await eventually(lambda: standing)
    assert set(standing) == {200}
