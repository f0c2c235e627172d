"""The consumer against real Kafka and PostgreSQL: every rule of exactly-once has a test that fails without it."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from touchpoint.base.errors import PermanentError, TransientError
from touchpoint.contracts.record import encode
from touchpoint.kafka import admin, assignment, batch
from touchpoint.kafka import consumer as consumer_module
from touchpoint.kafka.batch import Batches
from touchpoint.kafka.consumer import Consumer, StalledError
from touchpoint.kafka.dead_letter import Limit
from touchpoint.kafka.reader import Reader
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback, ticket_opened, ticket_replied, usage_reported

TOPIC = "touchpoints.v1"


def numbered(count, first=0, **over):
    return [feedback(id=f"e{n}", **over) for n in range(first, first + count)]


def ids(events):
    return [event.meta.id for event in events]


async def test_events_are_applied_once_in_log_order(log, ledger, consuming):
    events = numbered(500)
    await log.append(*events)
    async with consuming():
        await eventually(ledger.next, 30)
        await eventually(lambda: _applied(ledger, 500))
    assert await ledger.ids() == ids(events)
    assert (await ledger.next())[0] == 500


async def test_types_with_one_handler_are_applied_in_log_order(log, ledger, consuming):
    events = [
        make(id=f"e{n}", ticket_id=f"t{n}")
        for n, make in enumerate([ticket_replied, ticket_opened, ticket_replied, ticket_opened, ticket_opened])
    ]
    await log.append(*events)
    async with consuming():
        await eventually(lambda: _applied(ledger, 5))
    assert await ledger.ids() == ["e0", "e1", "e2", "e3", "e4"]


async def test_an_event_sent_again_is_applied_once(log, ledger, consuming):
    events = numbered(3)
    await log.append(*events, *events, *events)
    async with consuming():
        await _at(ledger, 9)
    assert await ledger.ids() == ids(events)
    assert await ledger.query("SELECT * FROM conflicts") == []


@pytest.mark.parametrize("before", [2, 300])
async def test_another_payload_under_an_applied_id_is_recorded_as_a_conflict_and_not_applied(
    log, ledger, consuming, before
):
    await log.append(*numbered(before), feedback(id="e0", text="something else"), *numbered(1, first=before))
    async with consuming():
        await _at(ledger, before + 2)
    assert await ledger.ids() == [f"e{n}" for n in range(before + 1)]
    [conflict] = await ledger.query('SELECT topic, partition, "offset" FROM conflicts')
    assert tuple(conflict) == (TOPIC, 0, before)


async def test_a_type_without_a_handler_is_skipped_without_decoding(log, ledger, consuming):
    garbage = replace(encode(usage_reported()), value=b"not even JSON")
    await log.append(garbage, *numbered(1))
    async with consuming():
        await _at(ledger, 2)
    assert await ledger.ids() == ["e0"]
    assert await ledger.query("SELECT * FROM dead_letters") == []


async def test_gaps_between_offsets_do_not_disturb_the_fence(log, ledger, consuming):
    """Transaction markers take offsets: the stored offset is the last record's + 1, and the fence starts from it."""
    await _in_transactions(log, ["a", "b", "c"])
    async with consuming():
        await _at(ledger, 6)  # records at 0, 2, 4 and markers at 1, 3, 5
        await _in_transactions(log, ["d", "e"])
        await eventually(lambda: _applied(ledger, 5))
    assert await ledger.ids() == ["a", "b", "c", "d", "e"]


async def test_a_partition_that_ends_with_a_transaction_marker_counts_as_read_through(log, ledger, consuming):
    await _in_transactions(log, ["a"])
    async with consuming():
        await eventually(lambda: _read_through_since_now(ledger))


async def test_an_idle_partition_is_marked_as_read_through(log, ledger, consuming):
    async with consuming():
        await eventually(lambda: _read_through_since_now(ledger))


async def test_an_end_of_the_log_not_yet_reached_is_not_replaced_by_a_later_one(ledger, kafka):
    """Else a consumer with a constant lag would never reach an end, and no clock would fire until it has caught up."""

    class GrowingLog:
        end = 100

        async def end_offsets(self, partitions):
            self.end += 100
            return dict.fromkeys(partitions, self.end)

        readable_ends = end_offsets

        async def position(self, partition):
            return 150

    consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions)
    consumer._assignment.starts[TOPIC, 0] = 150
    await consumer._look_ahead(GrowingLog())
    [first] = consumer._horizon.values()
    await consumer._look_ahead(GrowingLog())
    assert list(consumer._horizon.values()) == [first]


async def test_a_transaction_marker_at_the_end_of_the_log_is_not_a_stall(log, ledger, consuming, monkeypatch):
    await _in_transactions(log, ["a"])
    async with consuming() as consumer:
        await _at(ledger, 1)
        await _read_through_since_now(ledger)
        monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.5)
        for _ in range(3):
            await _read_through_since_now(ledger)
        monkeypatch.setattr(consumer_module, "STALL_SECONDS", 60)
        await log.append(*numbered(1))
        await eventually(lambda: _applied(ledger, 2))
        assert await consumer.check() is None


@pytest.mark.parametrize("ticks", range(4))
async def test_a_cancellation_at_the_moment_of_kafkas_response_is_not_lost(ledger, kafka, ticks):
    consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions)
    consumer._assignment.starts[TOPIC, 0] = 1
    answer = asyncio.get_running_loop().create_future()
    client = SimpleNamespace(commit=lambda _: answer)
    mirroring = asyncio.create_task(consumer._mirror_offsets(client))
    await asyncio.sleep(0)
    answer.set_result(None)
    for _ in range(ticks):
        await asyncio.sleep(0)
    if mirroring.cancel():
        with pytest.raises(asyncio.CancelledError):
            await mirroring


async def test_a_hanging_iteration_ends_the_process(log, ledger, kafka, monkeypatch):
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 1)
    consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions)

    async def hang(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(Batches, "apply", hang)
    await log.append(*numbered(1))
    with pytest.raises(StalledError):
        async with asyncio.timeout(60):
            await consumer.run(asyncio.Event())


async def test_partitions_that_never_become_ready_end_the_process(log, ledger, kafka, monkeypatch):
    for name in ("PREPARE_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(consumer_module, name, 2)
    consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions)

    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(AIOKafkaConsumer, "beginning_offsets", never)
    await log.append(*numbered(1))
    with pytest.raises(StalledError, match="no partition could be made ready"):
        async with asyncio.timeout(60):
            await consumer.run(asyncio.Event())


async def test_records_that_do_not_arrive_end_the_process(log, ledger, kafka, monkeypatch):
    monkeypatch.setattr(consumer_module, "STALL_SECONDS", 1)
    consumer = Consumer("ledger-svc", ledger.handlers, kafka, ledger.sessions)

    async def nothing(*_, **__):
        await asyncio.sleep(0.01)  # as long as a poll
        return {}

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", nothing)
    await log.append(*numbered(1))
    with pytest.raises(StalledError, match="no records arrived for 1 s"):
        async with asyncio.timeout(60):
            await consumer.run(asyncio.Event())


async def test_a_halted_consumer_does_not_count_as_stalled(log, ledger, consuming, monkeypatch):
    async with consuming() as consumer:
        await ledger.set_state("halted", "a person is looking")
        await eventually(lambda: _says(consumer, "halted"))
        monkeypatch.setattr(consumer_module, "STALL_SECONDS", 0.6)
        await log.append(*numbered(1))
        for _ in range(3):
            await eventually(lambda: _says(consumer, "halted"))
            [now] = await ledger.query("SELECT clock_timestamp() AS at")
            await eventually(lambda now=now: _later(ledger, now.at, 0.5))
        monkeypatch.setattr(consumer_module, "STALL_SECONDS", 60)
        await ledger.set_state("running", "go on")
        await _at(ledger, 1)


async def test_a_partition_that_fails_is_read_through_only_after_its_recovery(log, ledger, consuming):
    def fail(events):
        raise TransientError("not now")

    async with consuming() as consumer:
        await eventually(lambda: _read_through_since_now(ledger))
        ledger.before = fail
        await log.append(*numbered(1))
        [before] = await ledger.query("SELECT clock_timestamp() AS at")
        await eventually(consumer.check)
        ledger.before = lambda events: None
        await eventually(lambda: _applied(ledger, 1))
        assert await ledger.ids() == ["e0"]
        await eventually(lambda: _read_through(ledger, before.at))


async def test_a_member_starts_at_the_offset_in_postgresql_not_at_kafkas(log, ledger, consuming, kafka):
    events = numbered(20)
    await log.append(*events)
    async with consuming():
        await _at(ledger, 20)
    await _commit_to_kafka(kafka, 3)
    await log.append(*numbered(5, first=20))
    async with consuming():
        await _at(ledger, 25)
    assert await ledger.ids() == [f"e{n}" for n in range(25)]
    assert await ledger.query("SELECT * FROM conflicts") == []


async def test_a_partition_without_a_stored_offset_is_read_from_its_beginning(log, ledger, consuming, kafka):
    await log.append(*numbered(4))
    await _commit_to_kafka(kafka, 4)
    async with consuming():
        await _at(ledger, 4)
    assert await ledger.ids() == ["e0", "e1", "e2", "e3"]


async def test_a_member_that_loses_the_fence_continues_at_the_stored_offset(log, ledger, consuming):
    async with consuming():
        await log.append(*numbered(3))
        await _at(ledger, 3)
        await ledger.query(
            "UPDATE offsets SET next = 5, last_record = NULL WHERE topic = :topic AND partition = 0", topic=TOPIC
        )
        await log.append(*numbered(4, first=3))
        await _at(ledger, 7)
    assert await ledger.ids() == ["e0", "e1", "e2", "e5", "e6"]


async def test_members_that_join_and_leave_apply_each_event_once(log, ledger, consuming):
    chance = random.Random(7)
    count = 0

    async def write() -> None:
        nonlocal count
        for _ in range(30):
            events = numbered(20, first=count)
            count += 20
            await log.append(*events[:7], partition=0)
            await log.append(*events[7:14], partition=1)
            await log.append(*events[14:], partition=2)

    async def join_and_leave() -> None:
        for _ in range(4):
            async with consuming():
                seen = len(await ledger.ids())
                await eventually(lambda seen=seen: _applied(ledger, min(count, seen + chance.randrange(1, 60))))

    async with consuming():
        await asyncio.gather(write(), join_and_leave())
        await eventually(lambda: _applied(ledger, count), 60)
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(count))
    for partition in range(3):
        rows = await ledger.query("SELECT position FROM ledger WHERE partition = :p ORDER BY seq", p=partition)
        assert [row.position for row in rows] == list(range(len(rows)))


async def test_a_partition_revoked_during_a_batch_is_not_ready_after_it(log, ledger, consuming):
    async with consuming() as consumer:
        await log.append(*numbered(3))
        await _at(ledger, 3)
        assignment = consumer._assignment
        ours = {assignment.partition(place) for place in assignment.starts}
        left = {tp for tp in ours if tp.partition != 0}

        def rebalance(events):
            assignment.on_partitions_revoked(ours)
            assignment.on_partitions_assigned(left)

        ledger.before = rebalance
        await log.append(*numbered(3, first=3))
        await _at(ledger, 6)
        await eventually(lambda: {assignment.partition(place) for place in assignment.starts} == left)
        ledger.before = lambda events: None
        assignment.on_partitions_assigned(ours)
        await log.append(*numbered(3, first=6))
        await _at(ledger, 9)
    assert await ledger.ids() == [f"e{n}" for n in range(9)]


async def test_a_rebalance_between_reading_and_applying_loses_no_event(log, ledger, consuming, monkeypatch):
    take, lost = Reader.take, []

    def take_and_lose(reader):
        taken = take(reader)
        if taken and not lost:
            lost.extend(taken)
            asyncio.get_running_loop().call_soon(assignment.on_partitions_assigned, ours)
        return taken

    async with consuming() as consumer:
        await log.append(*numbered(3))
        await _at(ledger, 3)
        assignment = consumer._assignment
        ours = {assignment.partition(place) for place in assignment.starts}
        monkeypatch.setattr(Reader, "take", take_and_lose)
        await log.append(*numbered(3, first=3))
        await _at(ledger, 6)
    assert lost
    assert await ledger.ids() == [f"e{n}" for n in range(6)]


async def test_a_large_batch_is_applied_in_two_transactions_of_whole_partitions(log, ledger, consuming, monkeypatch):
    monkeypatch.setattr(batch, "TWO_LANES_FROM", 10)
    together = []
    ledger.before = lambda events: together.append({event.meta.partition for event in events})
    for partition in range(3):
        await log.append(*numbered(30, first=30 * partition), partition=partition)
    async with consuming():
        await eventually(lambda: _applied(ledger, 90))
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(90))
    assert all(partitions == {1} or 1 not in partitions for partitions in together)
    for partition in range(3):
        rows = await ledger.query("SELECT position FROM ledger WHERE partition = :p ORDER BY seq", p=partition)
        assert [row.position for row in rows] == list(range(30))


async def test_a_failure_in_one_of_two_transactions_does_not_roll_back_the_other(log, ledger, consuming, monkeypatch):
    monkeypatch.setattr(batch, "TWO_LANES_FROM", 10)
    failing = True

    def fail(events):
        if failing and any(event.meta.partition == 1 for event in events):
            raise TransientError("not yet")

    ledger.before = fail
    for partition in (0, 1):
        await log.append(*numbered(20, first=20 * partition), partition=partition)
    async with consuming():
        await _at(ledger, 20)
        assert (await ledger.next())[1] == 0
        failing = False
        await eventually(lambda: _applied(ledger, 40))
    assert sorted(await ledger.ids()) == sorted(f"e{n}" for n in range(40))


async def test_a_transient_error_is_retried_and_makes_no_dead_letter(log, ledger, consuming):
    failures = 2

    def fail_twice(events):
        nonlocal failures
        if failures:
            failures -= 1
            raise TransientError("the database is elsewhere")

    ledger.before = fail_twice
    await log.append(*numbered(10))
    async with consuming():
        await _at(ledger, 10)
    assert await ledger.ids() == [f"e{n}" for n in range(10)]
    assert await ledger.query("SELECT * FROM dead_letters") == []


async def test_one_poison_event_is_isolated_and_the_rest_applied(log, ledger, consuming):
    def refuse(events):
        if any(event.meta.id == "e137" for event in events):
            raise PermanentError("this customer breaks us")

    ledger.before = refuse
    await log.append(*numbered(300))
    async with consuming():
        await _at(ledger, 300)
    assert await ledger.ids() == [f"e{n}" for n in range(300) if n != 137]
    [letter] = await ledger.query("SELECT * FROM dead_letters")
    assert (letter.topic, letter.partition, letter.offset) == (TOPIC, 0, 137)
    assert (letter.stage, letter.error, letter.reason) == ("handle", "PermanentError", "this customer breaks us")
    assert await ledger.query("SELECT * FROM inbox WHERE event_id = :i", i=letter.event_id) == []


async def test_the_message_of_a_librarys_error_is_not_in_the_dead_letter(log, ledger, consuming):
    def refuse(events):
        raise ValueError("quoted: jane@example.com")

    ledger.before = refuse
    await log.append(*numbered(1))
    async with consuming():
        await _at(ledger, 1)
    [letter] = await ledger.query("SELECT error, reason FROM dead_letters")
    assert letter.error == "ValueError"
    assert "jane" not in letter.reason


async def test_an_undecodable_record_becomes_a_dead_letter_with_its_bytes_key_and_partition(log, ledger, consuming):
    broken = replace(encode(feedback(id="broken")), value=b'{"kind": 7, "\xff"')
    await log.append(*numbered(1), broken, *numbered(1, first=1))
    async with consuming():
        await _at(ledger, 3)
    assert await ledger.ids() == ["e0", "e1"]
    [row] = await ledger.query("SELECT topic, partition, key, value FROM outbox")
    assert row.topic == f"{TOPIC}.ledger-svc.dlq"
    assert (row.partition, row.key, row.value) == (0, broken.key, broken.value)


async def test_too_many_dead_letters_halt_the_consumer_before_the_rest_of_the_topic(log, ledger, consuming):
    def refuse(events):
        raise PermanentError("a bug")

    ledger.before = refuse
    await log.append(*numbered(50))
    async with consuming(Limit(consecutive=5)) as consumer:
        halted = await eventually(lambda: _in_state(ledger, "halted"))
        assert "more than 5 dead letters in a row" in halted.reason
        assert "halted" in await consumer.check()
        assert len(await ledger.query("SELECT * FROM dead_letters")) <= 5
        ledger.before = lambda events: None
        await ledger.set_state("running", "the bug is fixed")
        await _at(ledger, 50)
    assert len(await ledger.ids()) + len(await ledger.query("SELECT * FROM dead_letters")) == 50


async def test_with_a_limit_of_0_the_first_poison_event_halts_the_consumer(log, ledger, consuming):
    def refuse(events):
        if any(event.meta.id == "e7" for event in events):
            raise PermanentError("a bug")

    ledger.before = refuse
    await log.append(*numbered(10))
    async with consuming(Limit(consecutive=0)):
        halted = await eventually(lambda: _in_state(ledger, "halted"))
        assert "none may be skipped; the last one: touchpoints.v1/0/7: PermanentError: a bug" in halted.reason
        assert await ledger.ids() == [f"e{n}" for n in range(7)]
        assert await ledger.query("SELECT 1 FROM dead_letters") == []
        ledger.before = lambda events: None
        await ledger.set_state("running", "the bug is fixed")
        await _at(ledger, 10)
    assert await ledger.ids() == [f"e{n}" for n in range(10)]


async def test_a_paused_consumer_applies_nothing_until_resumed(log, ledger, consuming):
    async with consuming() as consumer:
        await ledger.set_state("paused", "maintenance")
        await eventually(lambda: _says(consumer, "paused: maintenance"))
        await log.append(*numbered(2))
        assert await ledger.ids() == []
        await ledger.set_state("running", "done")
        await _at(ledger, 2)


@pytest.mark.parametrize("lost_before", [8, 10])
async def test_records_lost_before_they_were_read_halt_the_consumer_at_assignment(
    log, ledger, consuming, kafka, lost_before
):
    await log.append(*numbered(4))
    async with consuming():
        await _at(ledger, 4)
    await log.append(*numbered(6, first=4))
    await _delete_records(kafka, before=lost_before)
    async with consuming():
        halted = await eventually(lambda: _in_state(ledger, "halted"))
    assert f"records 4 to {lost_before - 1} are gone" in halted.reason
    assert len(await ledger.ids()) == 4


@pytest.mark.parametrize("lost_before", [8, 10])
async def test_records_lost_while_running_halt_the_consumer(log, ledger, consuming, kafka, lost_before):
    async with consuming() as consumer:
        await log.append(*numbered(4))
        await _at(ledger, 4)
        await ledger.set_state("paused", "retention is faster now")
        await eventually(lambda: _says(consumer, "paused"))
        for _ in range(2):  # until the running fetch has returned no records
            await _read_through_since_now(ledger)
        await log.append(*numbered(6, first=4))
        await _delete_records(kafka, before=lost_before)
        await ledger.set_state("running", "go on")
        halted = await eventually(lambda: _in_state(ledger, "halted"))
    assert f"records 4 to {lost_before - 1} are gone" in halted.reason
    assert len(await ledger.ids()) == 4


async def test_a_log_that_ends_before_the_stored_offset_halts_the_consumer(log, ledger, consuming, monkeypatch):
    monkeypatch.setattr(assignment, "LEADER_SECONDS", 0)  # there is no new leader to wait for
    await log.append(*numbered(4))
    async with consuming():
        await _at(ledger, 4)
    await ledger.query("UPDATE offsets SET next = 40 WHERE partition = 0")
    async with consuming():
        halted = await eventually(lambda: _in_state(ledger, "halted"))
    assert "the log ends at 4" in halted.reason


async def test_offsets_of_another_kafka_cluster_halt_the_consumer(log, ledger, consuming):
    await log.append(*numbered(4))
    async with consuming():
        await _at(ledger, 4)
    await ledger.query("UPDATE offsets SET cluster_id = 'another'")
    async with consuming():
        halted = await eventually(lambda: _in_state(ledger, "halted"))
    assert "Kafka cluster another" in halted.reason


async def _applied(ledger, count):
    return len(await ledger.ids()) >= count


async def _at(ledger, offset):
    async def reached():
        return (await ledger.next()).get(0) == offset

    await eventually(reached)


async def _in_state(ledger, state):
    stored = await ledger.state()
    return stored if stored.state == state else None


async def _says(consumer, text):
    return text in (await consumer.check() or "")


async def _later(ledger, moment, seconds):
    [now] = await ledger.query("SELECT clock_timestamp() AS at")
    return (now.at - moment).total_seconds() > seconds


async def _read_through(ledger, moment):
    rows = await ledger.query("SELECT 1 FROM offsets WHERE partition = 0 AND read_through > :moment", moment=moment)
    return bool(rows)


async def _read_through_since_now(ledger):
    [now] = await ledger.query("SELECT clock_timestamp() AS at")
    return await eventually(lambda: _read_through(ledger, now.at))


async def _in_transactions(log, names):
    """Each event in a Kafka transaction of its own, so that a marker follows it."""
    options = log.settings.client_options()
    producer = AIOKafkaProducer(**options, transactional_id=log.settings.topic_prefix)
    await producer.start()
    try:
        for name in names:
            record = encode(feedback(id=name))
            async with producer.transaction():
                topic = log.settings.topic_prefix + record.topic
                await producer.send_and_wait(topic, record.value, record.key, 0, headers=record.headers)
    finally:
        await producer.stop()


async def _commit_to_kafka(kafka, offset):
    consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=kafka.topic_prefix + "ledger-svc")
    partition = TopicPartition(kafka.topic_prefix + TOPIC, 0)
    consumer.assign([partition])
    await consumer.start()
    await consumer.commit({partition: OffsetAndMetadata(offset, "")})
    await consumer.stop()


async def _delete_records(kafka, before):
    async with admin.connected(kafka) as client:
        partition = TopicPartition(kafka.topic_prefix + TOPIC, 0)
        await client.delete_records({partition: RecordsToDelete(before_offset=before)})
