"""Parses fetched record batches so that no malformed record can stop a consumer.

aiokafka raises inside `getmany` on a header name that is not UTF-8, on a batch it cannot decompress and on a wrong
checksum, and raises again whenever it fetches that batch: the consumer is stuck, without reporting which offset is
to blame. Here such a record gets a `Flawed` value, which decoding turns into a dead letter. A batch that cannot be read
at all becomes one record, whose `Flawed` value has the offsets of the batch: the live consumer halts there.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint

from touchpoint.contracts.record import Flawed
from touchpoint.kafka.decompression import DecompressionError, decompress

MAX_HEADERS = 5000
"""The limit per record in a large batch: a header can take two bytes there, but takes about a hundred in Python."""
LARGE_BYTES = 4 * 1024 * 1024
"""A decompressed batch above this size is parsed in Python, slowly, to count headers before parsing them."""

_PREFIX = struct.Struct(">qi")
"""The batch's first offset, and its length without this prefix."""
_MAGIC_AT, _CODEC_AT, _LAST_DELTA_AT, _FIRST_TIME_AT, _MAX_TIME_AT, _COUNT_AT = 16, 22, 23, 27, 35, 57
_HEADER_BYTES = 61
_CODEC_MASK, _APPEND_TIME = 0x07, 0x08


class FetchedRecord(NamedTuple):
    """One record, with the attributes that aiokafka's fetcher reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class FetchedBatches:
    """The batches fetched from one partition; replaces aiokafka's `MemoryRecords`."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def size_in_bytes(self) -> int:
        """The number of bytes fetched."""
        return len(self._raw)

    def has_next(self) -> bool:
        """Whether a batch is left. Kafka may truncate the last batch of a response, never the first."""
        if self._at == 0:
            return len(self._raw) > 0
        return self._at < len(self._raw) and self._end() <= len(self._raw)

    def next_batch(self) -> Any:
        """The next batch."""
        start, end = self._at, self._end()
        if end - start <= _MAGIC_AT or end > len(self._raw):
            self._at = len(self._raw)
            return FetchedBatch(self._raw[start:], "the batch is truncated")
        self._at = end
        raw = self._raw[start:end]
        magic = raw[_MAGIC_AT]
        if magic < 2:
            return LegacyRecordBatch(raw, magic)
        return FetchedBatch(raw, None if magic == 2 else f"the batch has an unknown format, version {magic}")

    def _end(self) -> int:
        """The end of the batch that starts here; beyond the fetched bytes if the length is missing or invalid."""
        if len(self._raw) - self._at < _PREFIX.size:
            return len(self._raw) + 1
        length: int = _PREFIX.unpack_from(self._raw, self._at)[1]
        return self._at + _PREFIX.size + length if length >= 0 else len(self._raw) + 1


class FetchedBatch:
    """One batch; replaces aiokafka's `DefaultRecordBatch` and delegates to it where that can parse the batch."""

    def __init__(self, raw: bytes, fault: str | None) -> None:
        if fault is None and len(raw) < _HEADER_BYTES:
            fault = "the batch is truncated"
        self._raw = raw
        self._fault = fault
        self._batch = None if fault else DefaultRecordBatch(raw)
        self.base_offset: int = _PREFIX.unpack(raw[: _PREFIX.size].ljust(_PREFIX.size, b"\0"))[0]

    def validate_crc(self) -> bool:
        """Always true, because aiokafka raises on false. A batch with a wrong checksum becomes an unreadable one."""
        if self._batch is not None and not self._batch.validate_crc():
            self._batch, self._fault = None, "the batch has a wrong checksum"
        return True

    @property
    def next_offset(self) -> int:
        """The offset after the last record of the batch."""
        return self._last_offset + 1

    @property
    def producer_id(self) -> int:
        """The id of the producer if it is idempotent or transactional, else -1."""
        return -1 if self._batch is None else self._batch.producer_id

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return self._batch is not None and self._batch.is_transactional

    @property
    def is_control_batch(self) -> bool:
        """Whether the batch is the marker with which the broker ends a transaction."""
        return self._batch is not None and self._batch.is_control_batch

    def __next__(self) -> Any:
        """The only record of a control batch."""
        assert self._batch is not None
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        """The records; if they cannot be read, one record that stands for all of them."""
        if self._batch is None:
            yield self._unreadable(str(self._fault))
            return
        read, batch, plain = 0, self._batch, b""
        try:
            if batch.compression_type:
                plain = decompress(batch.compression_type, self._raw[_HEADER_BYTES:])
                batch = DefaultRecordBatch(self._uncompressed_header() + plain)
            if len(plain) < LARGE_BYTES:
                for record in batch:
                    yield record
                    read += 1
                return
        except DecompressionError as error:
            yield self._unreadable(str(error))
            return
        except Exception:  # noqa: S110 (aiokafka rejects a record: the parser below is more tolerant)
            pass
        yield from self._read_in_python(plain or self._raw[_HEADER_BYTES:], read)

    def _uncompressed_header(self) -> bytes:
        header = bytearray(self._raw[:_HEADER_BYTES])
        header[_CODEC_AT] &= ~_CODEC_MASK
        return bytes(header)

    def _read_in_python(self, plain: bytes, skip: int) -> Iterator[FetchedRecord]:
        """The records, without the first `skip`."""
        (count,) = struct.unpack_from(">i", self._raw, _COUNT_AT)
        at = 0
        try:
            for number in range(count):
                record, at = self._read_record(plain, at)
                if number >= skip:
                    yield record
        except (ValueError, IndexError) as error:
            yield self._unreadable(f"a record in the batch is malformed: {error!s:.100}")

    def _read_record(self, plain: bytes, at: int) -> tuple[FetchedRecord, int]:
        """The record at position `at`, and the position of the next: https://kafka.apache.org/documentation/#record."""
        length, at = decode_varint(plain, at)
        end = at + length
        if not 0 < length <= len(plain) - at:
            raise ValueError(f"the record's length is {length}")
        time_delta, at = decode_varint(plain, at + 1)
        offset_delta, at = decode_varint(plain, at)
        key, at = _read_bytes(plain, at, end)
        value, at = _read_bytes(plain, at, end)
        headers, fault = _read_headers(plain, at, end)
        if fault:
            value = Flawed(value or b"", fault)
        return FetchedRecord(self.base_offset + offset_delta, self._time(time_delta), 0, key, value, headers), end

    def _time(self, delta: int) -> int:
        first, last = struct.unpack_from(">qq", self._raw, _FIRST_TIME_AT)
        return int(last if self._raw[_CODEC_AT] & _APPEND_TIME else first + delta)

    def _unreadable(self, fault: str) -> FetchedRecord:
        last = self._last_offset
        return FetchedRecord(last, 0, 0, None, Flawed(self._raw, fault, (self.base_offset, last)), [])

    @property
    def _last_offset(self) -> int:
        if len(self._raw) < _HEADER_BYTES:
            return self.base_offset
        delta: int = struct.unpack_from(">i", self._raw, _LAST_DELTA_AT)[0]
        return self.base_offset + max(0, delta)


def _read_bytes(plain: bytes, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(plain, at)
    if length < 0:
        return None, at
    if length > end - at:
        raise ValueError("a field is longer than the record")
    return plain[at : at + length], at + length


def _read_headers(plain: bytes, at: int, end: int) -> tuple[list[tuple[str, bytes | None]], str | None]:
    """The headers (bytes of a name that are not UTF-8 are escaped), and what is wrong with them, or None."""
    count, at = decode_varint(plain, at)
    if count > MAX_HEADERS:
        return [], f"the record has {count} headers, at most {MAX_HEADERS} are read"
    headers, fault = [], None
    for _ in range(count):
        name, at = _read_bytes(plain, at, end)
        value, at = _read_bytes(plain, at, end)
        try:
            text = (name or b"").decode()
        except UnicodeDecodeError:
            fault = "the name of a header is not UTF-8"
            text = (name or b"").decode(errors="backslashreplace")
        headers.append((text, value))
    return headers, fault


def install() -> None:
    """Make all aiokafka consumers of this process use these classes."""
    fetcher.MemoryRecords = FetchedBatches
