"""Decompresses record batches with all codecs of Kafka, up to a size limit that protects memory."""

import struct
import zlib
from collections.abc import Callable

import cramjam

MAX_BATCH_BYTES = 32 * 1024 * 1024
"""The limit of a decompressed batch: the compressed megabyte that a topic accepts can expand to a gigabyte."""

_GZIP = b"\x1f\x8b"
_XERIAL, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16


class DecompressionError(Exception):
    """The batch cannot be decompressed; the message says why."""


def decompress(codec: int, data: bytes) -> bytes:
    """The decompressed records of a batch. `codec` is the number in the batch's attributes."""
    try:
        return _CODECS[codec](data)
    except KeyError:
        raise DecompressionError(f"the batch has an unknown codec, number {codec}") from None
    except (cramjam.DecompressionError, zlib.error, struct.error, ValueError) as error:
        raise DecompressionError(f"the batch cannot be decompressed: {error!s:.100}") from None


def _gunzip(data: bytes) -> bytes:
    """All gzip members; bytes after them that are no member are ignored, as Java's client does."""
    plain = bytearray()
    while data[:2] == _GZIP or not plain:
        member = zlib.decompressobj(wbits=31)
        plain += member.decompress(data, MAX_BATCH_BYTES + 1 - len(plain))
        if len(plain) > MAX_BATCH_BYTES:
            raise _too_large()
        if not member.eof:
            raise ValueError("it is truncated")
        data = member.unused_data
    return bytes(plain)


def _unsnap(data: bytes) -> bytes:
    """Raw snappy, or the length-prefixed blocks that Java's library writes."""
    if not data.startswith(_XERIAL):
        return _unsnap_block(data, MAX_BATCH_BYTES)
    plain, at = bytearray(), _XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        at += 4
        plain += _unsnap_block(data[at : at + length], MAX_BATCH_BYTES - len(plain))
        at += length
    return bytes(plain)


def _unsnap_block(data: bytes, max_bytes: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > max_bytes:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(data))


def _within_bounds(decompress_into: Callable[[bytes, bytearray], int]) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        size = min(MAX_BATCH_BYTES, max(64 * 1024, 8 * len(data)))
        while True:
            plain = bytearray(size)
            try:
                return bytes(memoryview(plain)[: decompress_into(data, plain)])
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
            if size == MAX_BATCH_BYTES:
                raise _too_large()
            size = min(MAX_BATCH_BYTES, 8 * size)

    return run


def _too_large() -> DecompressionError:
    return DecompressionError(f"the batch has more than {MAX_BATCH_BYTES:,} bytes when decompressed")


_CODECS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda data: data,
    1: _gunzip,
    2: _unsnap,
    3: _within_bounds(cramjam.lz4.decompress_into),
    4: _within_bounds(cramjam.zstd.decompress_into),
}
