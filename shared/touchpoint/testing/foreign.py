"""A foreign producer: writes record batches built byte by byte, including invalid ones that the broker accepts."""

import gzip
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import cramjam
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class RawRecord(NamedTuple):
    """A record as raw bytes; names of `headers` need not be UTF-8."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp: int = 0
    """Milliseconds after the batch's time."""

    @classmethod
    def of(cls, record: Record) -> "RawRecord":
        """The record as `touchpoint` represents it."""
        return cls(record.key, record.value, [(name.encode(), value) for name, value in record.headers])


def _varint(number: int) -> bytes:
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def _lengthy(part: bytes | None) -> bytes:
    return _varint(-1) if part is None else _varint(len(part)) + part


def _record(record: RawRecord, offset: int) -> bytes:
    body = b"".join((
        b"\0", _varint(record.timestamp), _varint(offset), _lengthy(record.key), _lengthy(record.value),
        _varint(len(record.headers)), *(_lengthy(part) for header in record.headers for part in header),
    ))  # fmt: skip
    return _varint(len(body)) + body


def compressed(plain: bytes, codec: str) -> bytes:
    """Records compressed as by a producer in another language."""
    if codec == "gzip":
        return gzip.compress(plain, 1, mtime=0)
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(plain))
    if codec == "lz4":
        packer = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
        packer.compress(plain)
        return bytes(packer.finish())
    return bytes(cramjam.zstd.compress(plain)) if codec == "zstd" else plain


def batch(
    records: Sequence[RawRecord], codec: str = "none", *, behind: bytes = b"", moment: int | None = None
) -> bytes:
    """A batch of format 2: https://kafka.apache.org/documentation/#recordbatch. `behind` follows the packed records."""
    first = int(time.time() * 1000) if moment is None else moment
    last = first + max(record.timestamp for record in records)
    packed = compressed(b"".join(_record(record, n) for n, record in enumerate(records)), codec) + behind
    summed = struct.pack(
        ">hiqqqhii", CODECS.index(codec), len(records) - 1, first, last, -1, -1, -1, len(records)
    ) + packed  # fmt: skip
    return struct.pack(">qiibI", 0, 9 + len(summed), -1, 2, calc_crc32c(summed)) + summed


class ForeignProducer:
    """Sends batches of raw bytes."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer = producer
        self._prefix = prefix

    async def write(self, topic: str, partition: int, raw: bytes) -> int:
        """Write a batch; returns its first offset. Raises the broker's error if the broker refuses it."""
        place = TopicPartition(self._prefix + topic, partition)
        await self._producer.partitions_for(place.topic)
        node = self._producer.client.cluster.leader_for_partition(place)
        request = ProduceRequest(None, -1, 10_000, [(place.topic, [(partition, raw)])])
        answer = await self._producer.client.send(node, request)
        [(_, [(_, code, offset, *_)])] = answer.topics
        if code:
            raise for_code(code)
        return int(offset)


@asynccontextmanager
async def foreign_producer(settings: KafkaSettings) -> AsyncIterator[ForeignProducer]:
    """A connected producer."""
    producer = AIOKafkaProducer(**settings.client_options())
    await producer.start()
    try:
        yield ForeignProducer(producer, settings.topic_prefix)
    finally:
        await producer.stop()
