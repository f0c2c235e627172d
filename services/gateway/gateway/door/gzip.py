"""Unpacking gzip (RFC 1952) piece by piece, so that limits apply before all of it is unpacked."""

import zlib
from collections.abc import Iterator

from touchpoint.http.errors import ProblemError

PIECE_BYTES = 128 * 1024
MAX_MEMBERS = 1000
"""Gzip members (files) in a body, one after another: each costs a new decompressor, however short it is."""
_GZIP = 16 + zlib.MAX_WBITS


def _malformed(reason: str) -> ProblemError:
    return ProblemError(400, "malformed-gzip", f"The body is not gzip as its Content-Encoding says: {reason}.")


class Unpacker:
    """Unpacks a body: call `unpack` with each part, then `finish`; both raise ProblemError 400."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield the unpacked bytes in pieces of at most PIECE_BYTES; each is unpacked when it is requested."""
        while True:
            if self._member.eof:
                if not data:
                    return
                self._begin()
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _malformed(str(error).rpartition(": ")[2]) from None
            yield piece
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not data and len(piece) < PIECE_BYTES:
                return

    def finish(self) -> None:
        """Check that the body is complete."""
        if not self._member.eof:
            raise _malformed("it ends too early")

    def _begin(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _malformed(f"it has more than {MAX_MEMBERS} members")
        self._member = zlib.decompressobj(_GZIP)
