"""Malformed records of foreign producers become a dead letter, or a halt that names the offset; never a crash."""

import re

import pytest
from aiokafka.errors import CorruptRecordException
from msgspec.structs import replace

from touchpoint.base.errors import UsageError
from touchpoint.contracts.record import encode
from touchpoint.kafka import log as logs
from touchpoint.kafka.decompression import MAX_BATCH_BYTES
from touchpoint.kafka.relay import Relay
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.testing.foreign import CODECS, RawRecord, batch, foreign_producer
from touchpoint.verify.run import verify

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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"more": [(b"ce_tenant", b"other")]}, "header ce_tenant occurs more than once"),
        ({"more": [(b"ce_id", b"e0")]}, "header ce_id occurs more than once"),
        ({"key": b"other:C-1"}, "the key is not the tenant and customer of the event: it may have overtaken others"),
        ({"key": None}, "the key is not the tenant and customer of the event: it may have overtaken others"),
        ({"value": None}, "data: json_invalid"),
        ({"value": b'{"a":' * 10_000}, "data: json_invalid"),
        ({"value": b'{"text": "a", "score": {"value": ' + b"9" * 5000 + b"}}"}, None),
        ({"value": b'{"text": NaN}'}, None),
        ({"value": b'"' + b" " * 600_000 + b'"'}, "data has more than 524,288 bytes"),
        ({"more": [(b"x", b"")] * 6000 + [BAD_NAME]}, "the record has 6010 headers"),
    ],
)
async def test_an_invalid_record_becomes_a_dead_letter(log, ledger, foreign, consuming, changes, reason):
    event = raw(feedback(id="e0"))
    more = changes.pop("more", [])
    await foreign.write(TOPIC, 0, batch([event._replace(headers=[*event.headers, *more], **changes)]))
    await log.append(feedback(id="e1"))
    async with consuming():
        await _at(ledger, 2)
    assert await ledger.ids() == ["e1"]
    [(offset, _, stored, _)] = await letters(ledger)
    assert (offset, stored[: len(reason or "")]) == (0, reason or "")


@pytest.mark.parametrize(("name", "moment"), [
    ("ce_time", b"0001-01-01T00:00:00+14:00"), ("ce_time", b"9999-12-31T23:59:59-14:00"), ("ce_time", b"9" * 5000),
    ("ce_id", b"a\0b"), ("ce_id", b""), ("ce_source", b"s" * 1001), ("ce_type", b"t" * 1001), ("ce_tenant", b"\xff"),
])  # fmt: skip
async def test_an_invalid_attribute_becomes_a_dead_letter(log, ledger, foreign, consuming, name, moment):
    event = encode(feedback(id="e0"))
    changed = replace(event, headers=[(each, moment if each == name else value) for each, value in event.headers])
    await log.append(changed, feedback(id="e1"))
    async with consuming():
        await _at(ledger, 2)
    assert (await ledger.ids(), [letter[:2] for letter in await letters(ledger)]) == (["e1"], [(0, "decode")])


@pytest.mark.parametrize("codec", CODECS)
async def test_batches_of_every_codec_are_read(log, ledger, foreign, consuming, codec):
    events = [raw(feedback(id=f"e{n}", text="so good " * 50)) for n in range(20)]
    events[7] = events[7]._replace(headers=[BAD_NAME])
    await foreign.write(TOPIC, 0, batch(events, codec))
    async with consuming():
        await _at(ledger, 20)
    assert await ledger.ids() == [f"e{n}" for n in range(20) if n != 7]


async def test_bytes_after_gzip_data_are_ignored_as_in_java(log, ledger, foreign, consuming):
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e0"))], "gzip", behind=b"\0garbage"))
    async with consuming():
        await _at(ledger, 1)
    assert await ledger.ids() == ["e0"]


async def test_a_compression_bomb_halts_the_consumer_and_can_be_skipped(log, ledger, foreign, consuming, touchpoint):
    """A compressed megabyte can expand to a gigabyte of zeros."""
    bomb = RawRecord(b"acme:C-1", bytes(MAX_BATCH_BYTES + 1))
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e0"))]))
    await foreign.write(TOPIC, 0, batch([bomb, bomb], "gzip"))
    await foreign.write(TOPIC, 0, batch([raw(feedback(id="e1"))]))
    async with consuming():
        await eventually(lambda: _is_halted(ledger))
        reason = (await ledger.state()).reason
        assert reason.startswith(f"{TOPIC}/0/1-2 cannot be read: the batch has more than")
        command = re.search(r"touchpoint (consumer resume .*--past \S+)", reason)[1].split()
        await touchpoint(*command, "--reason", "a bomb, INC-17")
        await _at(ledger, 4)
    assert await ledger.ids() == ["e0", "e1"]
    assert await letters(ledger) == [(2, "read", "an operator passed over offsets 1 to 2: a bomb, INC-17", None)]
    [trail] = await ledger.query("SELECT subject, reason, details FROM audit WHERE action = 'consumer.pass'")
    assert trail.details == {"topic": TOPIC, "partition": 0, "first": 1, "last": 2}
    assert "a bomb, INC-17" in " ".join((await touchpoint("dlq", "show", f"{TOPIC}/0/2")).split())


async def test_a_dead_letter_that_would_be_too_large_for_kafka_is_sent_shortened(
    log, ledger, foreign, consuming, touchpoint, kafka
):
    """The source record was small enough for Kafka because it was compressed."""
    headers = [(b"ce_type", b"feedback.submitted"), *((b"x%d" % n, b"x" * 1000) for n in range(240))]
    await foreign.write(TOPIC, 0, batch([RawRecord(b"k" * 50_000, b"{" + b" " * 880_000, headers)], "gzip"))
    relay = Relay("ledger-svc", kafka, ledger.sessions)
    await relay._producer.start()
    async with consuming():
        await _at(ledger, 1)
    assert await relay.round() == 1
    await relay._producer.stop()
    report = await verify(ledger.subject, ledger.dsn, kafka)
    assert (report.findings, report.published) == ([], 1)
    [letter] = await _in_topic(kafka, f"{TOPIC}.ledger-svc.dlq")
    headers_sent = dict(letter.headers)
    assert (headers_sent["dlq_headers"], headers_sent["dlq_key"]) == (
        b"141 too many or too large to be copied", b"too large to be copied whole"
    )  # fmt: skip
    assert (len(letter.key), "dlq_value" in headers_sent, len(letter.value)) == (10_000, False, 880_001)
    assert "x" * 1000 in await touchpoint("dlq", "show", f"{TOPIC}/0/0")


async def test_only_the_consumers_next_offset_can_be_skipped(log, ledger, foreign, consuming, touchpoint):
    await log.append(feedback(id="e0"))
    async with consuming():
        await _at(ledger, 1)
    with pytest.raises(UsageError, match="is not the next offset of ledger-svc"):
        await touchpoint("consumer", "resume", "ledger-svc", "--past", f"{TOPIC}/0/7-9", "--reason", "a typo")
    with pytest.raises(UsageError, match="is not a range of offsets"):
        await touchpoint("consumer", "resume", "ledger-svc", "--past", "7", "--reason", "a typo")
    assert await letters(ledger) == []


async def test_the_broker_refuses_a_batch_with_a_wrong_checksum(log, foreign):
    broken = bytearray(batch([raw(feedback(id="e0"))]))
    broken[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        await foreign.write(TOPIC, 0, bytes(broken))


async def _in_topic(kafka, topic):
    async with logs.connected(kafka, [topic]) as reader:
        begins, ends = await reader.begins([topic]), await reader.ends([topic])
        spans = {place: (begin, ends[place]) for place, begin in begins.items()}
        return [record async for records in reader.read(spans) for record in records]


async def _is_halted(ledger):
    return (await ledger.state()).state == "halted"
