"""Logs that were truncated, recreated or restored after they had been read. Uses a Kafka of its own."""

import json
import struct
import uuid

import pytest
from aiokafka import AIOKafkaProducer

from touchpoint.base.errors import ConflictError
from touchpoint.contracts.record import encode
from touchpoint.http.status import POSITIONS
from touchpoint.kafka import admin
from touchpoint.kafka import consumer as consumer_module
from touchpoint.kafka.client import LogConsumer
from touchpoint.operators.verify import command
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.testing.servers import SOON_BACK, own_kafka, reached
from touchpoint.verify.inbox import AGAIN, MISSING
from touchpoint.verify.report import Fault
from touchpoint.verify.run import verify

TOPIC = "touchpoints.v1"
CONSUMER = "ledger-svc"
WHY = ("--reason", "a disk broke")
BATCH_HEADER = struct.Struct(">qi")
"""The start of a batch in a segment file: the offset of its first record, and the number of bytes that follow."""


@pytest.fixture(scope="module")
async def broker():
    async with own_kafka(SOON_BACK) as mortal:
        yield mortal


@pytest.fixture
async def kafka(broker):
    """Replaces the Kafka shared by all tests: this one loses data."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    settings = reached([broker]).model_copy(update={"partitions": 3, "topic_prefix": prefix})
    await admin.provision(settings, {CONSUMER: [TOPIC]})
    return settings


@pytest.fixture
def write(kafka):
    """A function that appends events to a partition, each in a batch of its own."""

    async def append(*names, partition=0):
        producer = AIOKafkaProducer(**kafka.client_options())
        await producer.start()
        try:
            for name in names:
                record = encode(feedback(id=name, text=name))
                await producer.send_and_wait(
                    kafka.topic_prefix + TOPIC, record.value, record.key, partition, headers=record.headers
                )
        finally:
            await producer.stop()

    return append


@pytest.fixture
def cut(broker, kafka):
    """A function that kills the broker, truncates partitions at the given offsets, and starts the broker again."""

    async def run(offsets):
        await broker.kill()
        for partition, offset in offsets.items():
            [segment] = (broker.server.folder / "data" / f"{kafka.topic_prefix}{TOPIC}-{partition}").glob("*.log")
            content, end = segment.read_bytes(), 0
            while end < len(content):
                base, length = BATCH_HEADER.unpack_from(content, end)
                if base >= offset or not length:
                    break
                end += BATCH_HEADER.size + length
            segment.write_bytes(content[:end])
        await broker.start()

    return run


@pytest.fixture
def faults(ledger, kafka, monkeypatch):
    monkeypatch.setattr(command, "installed", lambda _: ledger.subject)

    async def check():
        report = await verify(ledger.subject, ledger.dsn, kafka)
        return report, {(finding.fault, finding.where): finding.count for finding in report.findings}

    return check


def names(prefix, count, first=0):
    return [f"{prefix}{n}" for n in range(first, first + count)]


async def halted(ledger):
    async def check():
        stored = await ledger.state()
        return stored if stored.state == "halted" else None

    return await eventually(check, 60)


async def applied(ledger, count):
    async def check():
        return len(await ledger.ids()) >= count

    await eventually(check, 60)


async def losses(ledger):
    rows = await ledger.query("SELECT topic, partition, first, until, accepted_by FROM log_losses ORDER BY partition")
    return [tuple(row) for row in rows]


async def accept(touchpoint, refused):
    """Resume with the flags that a refused resume proposes."""
    flags = str(refused.value).rpartition("without them: ")[2].split()
    return await touchpoint("consumer", "resume", CONSUMER, *WHY, *flags)


async def test_a_tail_lost_while_the_consumer_was_down_halts_it(ledger, consuming, write, cut, touchpoint):
    await write(*names("old", 10))
    async with consuming():
        await applied(ledger, 10)
    await cut({0: 6})
    await write(*names("new", 7))  # at 6 to 12, past the old end
    async with consuming():
        reason = (await halted(ledger)).reason
        assert "touchpoints.v1/0: record 9 is not the one that was applied" in reason
        assert await losses(ledger) == [(TOPIC, 0, 6, 10, None)]
        positions = await ledger.query(POSITIONS.text, consumer=CONSUMER)
        assert (TOPIC, 0, 6, 0) in [tuple(row) for row in positions]  # later offsets must not be reported as read
        with pytest.raises(ConflictError, match=r"--accept-loss touchpoints\.v1/0/6-9$") as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        with pytest.raises(ConflictError):
            await touchpoint("consumer", "resume", CONSUMER, *WHY, "--accept-loss", "touchpoints.v1/0/7-9")
        assert await ledger.ids() == names("old", 10)
        await accept(touchpoint, refused)
        await applied(ledger, 17)
    assert await ledger.ids() == names("old", 10) + names("new", 7)
    assert (await ledger.next())[0] == 13
    [(*_, accepted_by)] = await losses(ledger)
    assert "@" in accepted_by
    [line] = await ledger.query("SELECT details FROM audit WHERE action = 'consumer.resume'")
    assert line.details["lost"][0] | {"why": ""} == line.details["lost"][0] | {
        "topic": TOPIC, "partition": 0, "first": 6, "until": 10, "why": "",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["running", "paused"])
async def test_a_tail_lost_while_the_consumer_runs_halts_it(ledger, consuming, write, cut, touchpoint, state):
    """A paused consumer reads the log only after it has grown past its old end, a running one mostly before."""
    async with consuming():
        await write(*names("old", 10))
        await applied(ledger, 10)
        if state == "paused":
            await ledger.set_state("paused", "a person")
        await cut({0: 6})
        await write(*names("new", 7))
        if state == "paused":
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        await halted(ledger)
        assert await losses(ledger) == [(TOPIC, 0, 6, 10, None)]
        with pytest.raises(ConflictError) as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        await accept(touchpoint, refused)
        await applied(ledger, 17)
    assert await ledger.ids() == names("old", 10) + names("new", 7)


async def test_losses_of_several_partitions_are_accepted_at_once(ledger, consuming, write, cut, touchpoint):
    for partition in range(3):
        await write(*names(f"old{partition}-", 5), partition=partition)
    async with consuming():
        await applied(ledger, 15)
    await cut({0: 3, 2: 4})
    async with consuming():
        await halted(ledger)
        assert await losses(ledger) == [(TOPIC, 0, 3, 5, None), (TOPIC, 2, 4, 5, None)]
        with pytest.raises(ConflictError) as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        await accept(touchpoint, refused)
        for partition in range(3):
            await write("new", *names(f"new{partition}-", 3), partition=partition)
        await applied(ledger, 15 + 1 + 9)


@pytest.fixture
def looking_often(monkeypatch):
    """Refresh the consumer's topic metadata every second instead of every 30 seconds."""

    def client(*arguments, **options):
        return LogConsumer(*arguments, **options | {"metadata_max_age_ms": 1000})

    monkeypatch.setattr(consumer_module, "LogConsumer", client)


@pytest.mark.usefixtures("looking_often")
@pytest.mark.parametrize("running", [True, False])
async def test_a_topic_that_was_deleted_and_created_again_halts_the_consumer(
    ledger, consuming, write, kafka, touchpoint, running
):
    await write(*names("old", 4))

    async def make_anew():
        async with admin.connected(kafka) as client:
            await client.delete_topics([kafka.topic_prefix + TOPIC])
        await eventually(lambda: gone(kafka), 30)
        await admin.provision(kafka, {CONSUMER: [TOPIC]})
        await write(*names("new", 9))

    if running:
        async with consuming():
            await applied(ledger, 4)
            await make_anew()
            await halted(ledger)
    else:
        async with consuming():
            await applied(ledger, 4)
        await make_anew()
    async with consuming():
        assert "deleted and created again" in (await halted(ledger)).reason
        with pytest.raises(ConflictError) as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        assert "touchpoints.v1/0/0-3" in str(refused.value)
        await accept(touchpoint, refused)
        await applied(ledger, 13)
    assert await ledger.ids() == names("old", 4) + names("new", 9)


async def gone(kafka):
    async with admin.connected(kafka) as client:
        return kafka.topic_prefix + TOPIC not in await client.list_topics()


async def test_a_broker_restarted_with_all_its_data_does_not_halt_the_consumer(ledger, consuming, write, broker):
    async with consuming() as consumer:
        await write(*names("e", 5))
        await applied(ledger, 5)
        await broker.kill()
        await broker.start()
        await write(*names("e", 5, first=5))
        await applied(ledger, 10)
        assert await consumer.check() is None
    assert await ledger.ids() == names("e", 10)
    assert await losses(ledger) == []


async def test_events_that_only_the_database_has_are_kept_until_they_are_sent_again(
    ledger, consuming, replaying, write, cut, touchpoint, faults, kafka
):
    await write(*names("old", 10))
    async with consuming():
        await applied(ledger, 10)
    await cut({0: 6})
    report, counts = await faults()
    assert counts == {(Fault.GONE, TOPIC): 4, (Fault.UNEXPLAINED, "ledger"): 4}
    assert f"Kafka has lost records: {kafka.topic_prefix}touchpoints.v1/0: the log ends at 6" in report.notes[0]
    await write(*names("new", 7))
    report, counts = await faults()
    assert (counts[Fault.GONE, TOPIC], report.pending, report.outcomes[MISSING]) == (4, 7, 0)

    async with consuming(), replaying():
        await halted(ledger)
        with pytest.raises(ConflictError) as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        await accept(touchpoint, refused)
        await applied(ledger, 17)
        await write("new0")  # sent again: its first copy is at an offset that was lost before
        await eventually(lambda: at(ledger, 14))
        report, counts = await faults()
        assert counts == {(Fault.GONE, TOPIC): 4, (Fault.UNEXPLAINED, "ledger"): 4}
        assert (report.outcomes["duplicate"], report.outcomes[AGAIN]) == (1, 0)
        output = await touchpoint("verify", code=1)
        assert "4 gone from Kafka in touchpoints.v1" in output
        assert "docs/runbooks/log-lost.md" in output
        assert "replay rebuild" not in output

        rebuild = ("replay", "rebuild", "--consumer", CONSUMER, *WHY, "--json")
        built = json.loads((await touchpoint(*rebuild)).splitlines()[-1])
        assert built["summary"]["compared"]["only_here"] == 4
        with pytest.raises(ConflictError, match="last copy of 4 events"):
            await touchpoint("replay", "swap", built["id"], *WHY)
        await touchpoint("replay", "abort", built["id"], *WHY)
        failed = json.loads((await touchpoint(*rebuild, "--swap", code=1)).splitlines()[-1])
        assert "last copy of 4 events" in failed["error"]
        await touchpoint("replay", "abort", failed["id"], *WHY)
        assert await ledger.ids() == names("old", 10) + names("new", 7)

        await write(*names("old", 4, first=6))
        await eventually(lambda: at(ledger, 18))
        report, counts = await faults()
        assert counts == {(Fault.CHANGED, "ledger"): 4}  # because its rows contain the events' offsets
        assert report.outcomes[AGAIN] == 4
        done = json.loads((await touchpoint(*rebuild, "--swap")).splitlines()[-1])
        assert done["summary"]["compared"]["only_here"] == 0
        assert (await faults())[1] == {}
    assert sorted(await ledger.ids()) == sorted(names("old", 10) + names("new", 7))


async def at(ledger, offset):
    return (await ledger.next())[0] == offset


async def test_an_operator_may_drop_events_that_only_the_database_has(
    ledger, consuming, replaying, write, cut, touchpoint, faults
):
    await write(*names("old", 5))
    async with consuming():
        await applied(ledger, 5)
    await cut({0: 3})
    async with consuming(), replaying():
        await halted(ledger)
        with pytest.raises(ConflictError) as refused:
            await touchpoint("consumer", "resume", CONSUMER, *WHY)
        await accept(touchpoint, refused)
        await touchpoint("replay", "rebuild", "--consumer", CONSUMER, *WHY, "--swap", "--drop-lost")
        assert (await faults())[1] == {}
    assert await ledger.ids() == names("old", 3)
