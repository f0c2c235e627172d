"""What foreign producers can write to the log: a dead letter, or a halt that names the place; never a crash."""

import re

import pytest
from aiokafka.errors import CorruptRecordException

from touchpoint.errors import UsageError
from touchpoint.kafka.codec import encode
from touchpoint.kafka.decompression import MAX_BATCH_BYTES
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.testing.foreign import CODECS, RawRecord, batch, foreign_producer

TOPIC = "touchpoints.v1"
BAD_NAME = (b"tra\xffce", b"1")


@pytest.fixture
async def foreign(log):
    async with foreign_producer(log.settings) as producer:
        yield producer


def raw(event, **changes):
    return RawRecord.of(encode(event))._replace(**changes)


async def _at(ledger, offset):
    await eventually(lambda: _stands(ledger, offset), 30)


async def _stands(ledger, offset):
    return (await ledger.next()).get(0) == offset


async def letters(ledger):
    rows = await ledger.query('SELECT "offset", stage, reason, tenant_id FROM dead_letters ORDER BY "offset"')
    return [tuple(row) for row in rows]


async def test_a_header_name_that_is_not_utf8_becomes_a_dead_letter(log, ledger, foreign, consuming, touchpoint):
    good, bad, behind = (raw(feedback(id=f"e{n}")) for n in range(3))
    bad = bad._replace(headers=[*bad.headers, BAD_NAME])
    await foreign.write(TOPIC, 0, batch([good, bad, behind]))
    async with consuming():
        await _at(ledger, 3)
    assert await ledger.ids() == ["e0", "e2"]
    assert await letters(ledger) == [(1, "read", "the name of a header is not UTF-8", "acme")]
    assert r"tra\xffce" in await touchpoint("dlq", "show", f"{TOPIC}/0/1")


@pytest.mark.parametrize("codec", CODECS)
async def test_batches_of_every_codec_are_read(log, ledger, foreign, consuming, codec):
    events = [raw(feedback(id=f"e{n}", text="so good " * 50)) for n in range(20)]
    events[7] = events[7]._replace(headers=[BAD_NAME])
    await foreign.write(TOPIC, 0, batch(events, codec))
    async with consuming():
        await _at(ledger, 20)
    assert await ledger.ids() == [f"e{n}" for n in range(20) if n != 7]


async def test_bytes_behind_gzip_are_ignored_as_java_ignores_them(log, ledger, foreign, consuming):
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e0"))], "gzip", behind=b"\0garbage"))
    async with consuming():
        await _at(ledger, 1)
    assert await ledger.ids() == ["e0"]


async def test_a_batch_that_would_take_all_memory_halts_and_can_be_passed(log, ledger, foreign, consuming, touchpoint):
    """A megabyte of gzip holds a gigabyte of zeros."""
    bomb = RawRecord(b"acme:C-1", bytes(MAX_BATCH_BYTES + 1))
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e0"))]))
    await foreign.write(TOPIC, 0, batch([bomb, bomb], "gzip"))
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e1"))]))
    async with consuming():
        await eventually(lambda: _is_halted(ledger))
        reason = (await ledger.state()).reason
        assert reason.startswith(f"{TOPIC}/0/1-2 cannot be read: decompressed it has more than")
        command = re.search(r"touchpoint (consumer resume .*--past \S+)", reason)[1].split()
        await touchpoint(*command, "--reason", "a bomb, INC-17")
        await _at(ledger, 4)
    assert await ledger.ids() == ["e0", "e1"]
    assert await letters(ledger) == [(2, "read", "an operator passed over offsets 1 to 2: a bomb, INC-17", None)]
    [trail] = await ledger.query("SELECT subject, reason, details FROM audit WHERE action = 'consumer.pass'")
    assert trail.details == {"topic": TOPIC, "partition": 0, "first": 1, "last": 2}
    assert "a bomb, INC-17" in await touchpoint("dlq", "show", f"{TOPIC}/0/2")


async def test_only_the_place_where_a_consumer_stands_can_be_passed(log, ledger, foreign, consuming, touchpoint):
    await log.append(feedback(id="e0"))
    async with consuming():
        await _at(ledger, 1)
    with pytest.raises(UsageError, match="does not stand at touchpoints"):
        await touchpoint("consumer", "resume", "ledger-svc", "--past", f"{TOPIC}/0/7-9", "--reason", "a typo")
    with pytest.raises(UsageError, match="names no offsets"):
        await touchpoint("consumer", "resume", "ledger-svc", "--past", "7", "--reason", "a typo")
    assert await letters(ledger) == []


async def test_the_broker_takes_no_batch_with_a_wrong_checksum(log, foreign):
    broken = bytearray(batch([raw(feedback(id="e0"))]))
    broken[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        await foreign.write(TOPIC, 0, bytes(broken))


async def _is_halted(ledger):
    return (await ledger.state()).state == "halted"
