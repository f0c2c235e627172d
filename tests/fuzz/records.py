"""Records of a foreign producer: batches of mutated records, in every codec, deterministic for a seed."""

import struct
from random import Random
from typing import NamedTuple

from aiokafka.record.util import calc_crc32c

from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.kafka.decompression import MAX_BATCH_BYTES
from touchpoint.testing.foreign import CODECS, RawRecord, batch

from . import mutate

TYPES = sorted(name for name, event in REGISTRY.items() if event.topic == TOUCHPOINTS)
_EXAMPLES = {name: REGISTRY[name].model_json_schema()["examples"][0] for name in TYPES}
_CRC_AT, _SUMMED_AT, _RECORDS_AT = 17, 21, 61

_NAMES = (
    b"", b"\xff", b"ce_\xff", b"tra\xc3", b"\xed\xa0\x80", b"x" * 30_000, b"ce_id", b"ce_type", b"ce_tenant",
    b"ce_time",
    b"CE_ID", b"ce_source", b"ce_backfill", b"traceparent", b"content-type", b"dlq_offset", b"dlq_topic", b"\0",
)  # fmt: skip
_VALUES = (
    None, b"", b"\0", b"\xff\xfe", b"acme", b"other", b"true", b"1.0", b"feedback.submitted", b"usage.reported",
    b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00", b"2026-11-20T12:00:00Z", b"2026-11-20",
    b"2026-11-20T12:00", b"nothing",
    b"9" * 5000, b"a\x00b", b"\x1b]0;title\x07", "\u202e".encode(), b"x" * 201, b"x" * 1001, b"x" * 200_000,
    b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)  # fmt: skip
_KEYS = (None, b"", b"acme", b"acme:", b":", b"other:C-1", b"\xff\xfe", b"acme:\0", b"acme:C-1", b"k" * 200_000)
_MOMENTS = (None, None, None, 0, -1, -(2**62), 2**62, 9_224_318_015_999_999)


class Written(NamedTuple):
    """A batch, the number of its records, and their key before mutations."""

    raw: bytes
    count: int
    key: bytes


def mutated(seed: int, number: int, most: int) -> Written:
    """The batch with this number in the run, with at most `most` records."""
    rng = Random(seed << 32 | number)
    kind = rng.choice(TYPES)
    owner = _EXAMPLES[kind].get("customer_id") or _EXAMPLES[kind].get("submission_id")
    count = min(most, rng.choice((1, 1, 2, 5, 10))) if owner else 1
    key = f"acme:{owner or f'{number}.0'}".encode()
    records = [_record(rng, kind, key, f"{number}.{index}") for index in range(count)]
    codec = rng.choice(CODECS)
    if rng.random() < 0.002:
        codec, records = rng.choice(("gzip", "zstd")), [RawRecord(b"acme:C-1", bytes(MAX_BATCH_BYTES + 1))]
    behind = b"\0garbage" if codec == "gzip" and rng.random() < 0.1 else b""
    raw = batch(records, codec, behind=behind, moment=rng.choice(_MOMENTS))
    return Written(_damaged(rng, raw) if rng.random() < 0.1 else raw, len(records), key)


def _record(rng: Random, kind: str, right_key: bytes, event_id: str) -> RawRecord:
    data = mutate.tree(_EXAMPLES[kind])
    key: bytes | None = right_key
    headers: list[tuple[bytes, bytes | None]] = [
        (b"ce_specversion", b"1.0"), (b"ce_type", kind.encode()), (b"ce_id", event_id.encode()),
        (b"ce_source", b"/fuzz"), (b"ce_time", b"2026-11-20T12:00:00Z"), (b"ce_tenant", b"acme"),
        (b"ce_recordedtime", b"2026-11-20T12:00:01Z"),
    ]  # fmt: skip
    value: bytes | None = mutate.encoded(data, rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        what = rng.randrange(8)
        if what < 3:
            _change_headers(rng, headers)
        elif what == 3:
            key = rng.choice(_KEYS)
        elif what == 4:
            value = mutate.octets(rng, value or b"", b'{"customer_id":"C-1"}')
        elif what == 5:
            value = rng.choice((None, b"", b"null", b"[" * 10_000, b'{"a":' * 10_000, b"9" * 5000, b"\xff", value))
        else:
            mutate.structure(rng, data)
            value = mutate.encoded(data, rng)
    if value is not None and len(value) > 800_000:
        value = value[:800_000]
    return RawRecord(key, value, headers, rng.choice((0, 0, 1, -5, 2**40)))


def _change_headers(rng: Random, headers: list[tuple[bytes, bytes | None]]) -> None:
    how, index = rng.randrange(6), rng.randrange(len(headers)) if headers else 0
    if how == 0 or not headers:
        headers.insert(index, (rng.choice(_NAMES), rng.choice(_VALUES)))
    elif how == 1:
        del headers[index]
    elif how == 2:
        headers.append(headers[index])
    elif how == 3:
        headers[index] = (headers[index][0], rng.choice(_VALUES))
    elif how == 4:
        headers[index] = (rng.choice(_NAMES), headers[index][1])
    else:
        headers += [(b"x", b"")] * rng.choice((1, 100, 6000))


def _damaged(rng: Random, raw: bytes) -> bytes:
    """Change bytes of the records or the batch's header, mostly with a correct checksum."""
    damaged = bytearray(raw)
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(_SUMMED_AT if rng.random() < 0.2 else _RECORDS_AT, len(damaged))
        damaged[place] = rng.randrange(256)
    if rng.random() < 0.9:
        struct.pack_into(">I", damaged, _CRC_AT, calc_crc32c(bytes(damaged[_SUMMED_AT:])))
    return bytes(damaged)
