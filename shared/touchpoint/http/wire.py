"""A strict parser of HTTP/1.1 requests (RFC 9110, RFC 9112), without I/O.

A proxy in front of this server parses the same bytes. If both split them into requests differently, a client can hide
a request in the body of another one (request smuggling). So every malformed or ambiguous request is refused and its
connection closed; nothing is repaired.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from touchpoint.http.errors import ProblemError

MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024
"""Limit for the request line. RFC 9112, 3 recommends at least 8,000 bytes."""
MAX_HEADERS = 100
MAX_EXTENSION_BYTES = 1024
"""Limit for the chunk extensions of a request, all chunks together (RFC 9112, 7.1.1)."""
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"QUERY"))
"""The methods of HTTP, without CONNECT, as this is no proxy. A route answers 405 to those it lacks; any other method is
answered with 501."""

Headers = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t -~\x80-\xff]*+"
_REQUEST_LINE = re.compile(rb"(%s) ([!-~]++) HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELDS = re.compile(rb"(?:%s:%s\r\n)*+" % (_TOKEN, _VALUE))
_FIELD = re.compile(rb"([^:]+):[ \t]*([^\r]*)\r\n")
"""Splits fields that _FIELDS has matched, three times as fast as the full grammar."""
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
_IS_HOST = re.compile(_HOST)
_ABSOLUTE = re.compile(rb"https?://(?=[^/?:])(%s)((?:[/?].*)?)" % _HOST, re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;%s)?\r\n" % _VALUE)
_NEVER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""Bytes that must not occur in a head, including a CR or LF by itself."""
_LISTS = frozenset((b"connection", b"transfer-encoding", b"expect"))
_SINGLE = frozenset((b"host", b"content-length", b"content-type", b"authorization"))
"""Fields that must not be repeated: a proxy might use another one of two values than the application."""


def malformed(detail: str, status: int = 400, code: str = "malformed-request") -> ProblemError:
    """The problem for a request that cannot be parsed safely."""
    return ProblemError(status, code, detail)


def _headers_too_large() -> ProblemError:
    detail = f"A request may have {MAX_HEADERS} headers and 64 KiB before its body."
    return malformed(detail, 431, "headers-too-large")


class Head(NamedTuple):
    """A request's line and headers, parsed."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    """The client's HTTP version, 1.0 or 1.1; a higher minor version counts as 1.1."""
    headers: Headers
    length: int | None
    """Length of the body in bytes; None if it is chunked."""
    keep_alive: bool
    expects_continue: bool


def parse_head(lines: bytes) -> Head:
    """Parse a request's line and headers, each ended by CRLF. Raises ProblemError 400, 413, 414, 417, 431, 501, 505."""
    line, _, block = lines.partition(b"\r\n")
    method, target, version = _parse_line(line)
    headers = _parse_fields(block)
    fields = dict(headers)
    if len(fields) != len(headers):
        fields |= _joined(headers)
    host = fields.get(b"host")
    if host is None:
        if version != "1.0":
            raise malformed("A request of HTTP/1.1 needs the header Host (RFC 9112, 3.2).")
    elif not _is_host(host):
        raise malformed("The header Host is not a host with an optional port (RFC 9112, 3.2).")
    if not target.startswith(b"/"):
        target = _origin(method, target, headers)
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode()
    length = _length(fields, version)
    connection = fields.get(b"connection")
    return Head(
        method=method.decode(),
        path=unquote(path) if "%" in path else path,
        raw_path=raw_path,
        query=query,
        version=version,
        headers=headers,
        length=length,
        keep_alive=version == "1.1" and (connection is None or b"close" not in _items(connection)),
        expects_continue=b"expect" in fields and version == "1.1" and _expects_continue(fields[b"expect"], length),
    )


def _parse_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Method, target and version."""
    if len(line) > MAX_LINE_BYTES:
        raise malformed("The request's address may have 16 KiB.", 414, "address-too-long")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise malformed("The first line is not: method, target and version of an HTTP/1.1 request (RFC 9112, 3).")
    method, target, major, minor = match.groups()
    if major != b"1":
        detail = f"This server speaks HTTP/1.1, not HTTP/{major.decode()}.{minor.decode()}."
        raise malformed(detail, 505, "version-not-supported")
    if method not in METHODS:
        detail = f"The method {method[:40].decode()} is not implemented. Methods are upper case."
        raise malformed(detail, 501, "method-not-implemented")
    if b"#" in target:
        raise malformed("The request's address must not have a fragment (RFC 9112, 3.2).")
    return method, target, "1.0" if minor == b"0" else "1.1"


def _parse_fields(block: bytes) -> Headers:
    """Header or trailer fields with names in lower case."""
    if not _FIELDS.fullmatch(block):
        raise malformed("A header is not: name, colon, value, with no space before the colon (RFC 9112, 5).")
    headers = [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(block)]
    if len(headers) > MAX_HEADERS:
        raise _headers_too_large()
    return headers


def _joined(headers: Headers) -> dict[bytes, bytes]:
    """The values of repeated list fields, joined by commas. Raises ProblemError if a field of _SINGLE is repeated."""
    values = dict[bytes, list[bytes]]()
    for name, value in headers:
        values.setdefault(name, []).append(value)
    for name in _SINGLE:
        if len(values.get(name, ())) > 1:
            raise malformed(f"The header {name.decode().title()} must not be repeated (RFC 9110, 5.3).")
    return {name: b",".join(values[name]) for name in _LISTS & values.keys()}


@lru_cache(1000)
def _is_host(host: bytes) -> bool:
    return _IS_HOST.fullmatch(host) is not None


def _items(value: bytes) -> list[bytes]:
    """The members of a list (RFC 9110, 5.6.1), in lower case."""
    return [item for part in value.split(b",") if (item := part.strip(b" \t").lower())]


def _origin(method: bytes, target: bytes, headers: Headers) -> bytes:
    """Path and query of a target that is not a path (RFC 9112, 3.2); the host of an absolute URL replaces Host."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise malformed("The request's address is neither a path nor an http URL (RFC 9112, 3.2).")
    host, rest = match.groups()
    headers[:] = [(name, host if name == b"host" else value) for name, value in headers]
    if not rest and method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


def _length(fields: dict[bytes, bytes], version: str) -> int | None:
    """The length of the body in bytes (RFC 9112, 6.3); None if it is chunked."""
    encoding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if encoding is not None:
        _check_encoding(encoding, version)
        if length is not None:
            raise malformed("A request has Content-Length or Transfer-Encoding, not both (RFC 9112, 6.3).")
        return None
    if length is None:
        return 0
    if not length.isdigit():
        raise malformed("The header Content-Length is not a number (RFC 9110, 8.6).")
    if len(length) > 15:
        raise malformed("The body is larger than any that is taken here.", 413, "body-too-large")
    return int(length)


def _check_encoding(encoding: bytes, version: str) -> None:
    codings = _items(encoding)
    if version == "1.0":
        raise malformed("HTTP/1.0 has no Transfer-Encoding (RFC 9112, 6.1).")
    if codings[-1:] != [b"chunked"] or codings.count(b"chunked") > 1:
        raise malformed("The last Transfer-Encoding has to be chunked, and no other (RFC 9112, 6.1 and 6.3).")
    if len(codings) > 1:
        raise malformed("Only the transfer coding chunked is implemented.", 501, "transfer-coding-not-implemented")


def _expects_continue(expectation: bytes, length: int | None) -> bool:
    if _items(expectation) != [b"100-continue"]:
        raise malformed("The only expectation that can be met is 100-continue.", 417, "expectation-failed")
    return length != 0


class RequestReader:
    """Splits the bytes of one connection into requests: call `feed`, `head`, then `body` until `complete`, and repeat.

    After a ProblemError the reader must not be used any more.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        """Number of bytes in the buffer that are already scanned as part of an incomplete head or trailer."""
        self._lines = 0
        """Number of lines in the scanned bytes."""
        self.complete = True
        """Whether the whole body of the request has been read."""
        self._left: int | None = 0
        """Bytes of the body, or of its current chunk, not read yet; None: next is the CRLF at the end of a chunk."""
        self._chunked = False
        self._trailers = False
        self._extensions = 0

    @property
    def pending(self) -> int:
        """Number of buffered bytes."""
        return len(self._buffer)

    @property
    def left(self) -> int | None:
        """Bytes of the body not read yet; None if it is chunked."""
        return None if self._chunked else self._left

    def feed(self, data: bytes) -> None:
        """Add bytes from the connection to the buffer."""
        self._buffer += data

    def clear(self) -> None:
        """Drop the buffered bytes."""
        self._buffer.clear()

    def head(self) -> Head | None:
        """The next request's head; None while it is incomplete. Raises ProblemError."""
        buffer = self._buffer
        while self._take_empty_line():  # RFC 9112, 2.2
            pass
        lines = self._take_lines(MAX_HEADERS + 1)
        if lines is None:
            if self._lines and self._seen:
                _parse_line(bytes(buffer[: buffer.index(b"\r\n")]))
            elif len(buffer) > MAX_LINE_BYTES:
                _parse_line(bytes(buffer))
            return None
        head = parse_head(lines)
        self._chunked, self._trailers, self._extensions = head.length is None, False, 0
        self._left = head.length or 0
        self.complete = head.length == 0
        return head

    def body(self) -> bytes:
        """Read the part of the body that has arrived. Raises ProblemError."""
        if self._chunked:
            return b"".join(self._chunks())
        assert self._left is not None
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(piece)
        self.complete = not self._left
        return piece

    def _chunks(self) -> Iterable[bytes]:
        """The data of the chunks that have arrived (RFC 9112, 7.1)."""
        buffer = self._buffer
        while not self._trailers:
            if self._left:
                piece = bytes(buffer[: self._left])
                del buffer[: self._left]
                self._left = (self._left - len(piece)) or None
                yield piece
            if self._left:
                return
            if self._left is None:
                if not b"\r\n".startswith(buffer[:2]):
                    raise malformed("A chunk is longer than its size says (RFC 9112, 7.1).")
                if len(buffer) < 2:
                    return
                del buffer[:2]
                self._left = 0
            if not self._begin_chunk():
                return
        self._end()

    def _begin_chunk(self) -> bool:
        """Read the line with a chunk's size; returns False while it is incomplete."""
        buffer = self._buffer
        match = _CHUNK.match(buffer)
        line = match.end() if match else len(buffer)
        extension = line - len(match[1]) - 2 if match else line
        if self._extensions + extension > MAX_EXTENSION_BYTES:
            raise _headers_too_large()
        if match is None:
            if b"\r\n" in buffer or _NEVER.search(buffer) or (buffer and buffer[0] not in b"0123456789abcdefABCDEF"):
                raise malformed("A chunk does not begin with its size in hexadecimal digits (RFC 9112, 7.1).")
            return False
        self._extensions += extension
        size = int(match[1], 16)
        del buffer[:line]
        self._trailers = not size
        self._left = size
        return True

    def _end(self) -> None:
        """Read the trailers, which are checked and dropped, as a proxy may not have checked them."""
        if self._take_empty_line():
            self.complete = True
        elif (lines := self._take_lines(MAX_HEADERS)) is not None:
            _parse_fields(lines)
            self.complete = True

    def _take_empty_line(self) -> bool:
        if not self._buffer.startswith(b"\r\n"):
            return False
        del self._buffer[:2]
        self._seen = self._lines = 0
        return True

    def _take_lines(self, most: int) -> bytes | None:
        """The lines before an empty line, at most `most`; None while they are incomplete. Raises ProblemError."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._seen - 3))
        if end > MAX_HEAD_BYTES or (end < 0 and len(buffer) > MAX_HEAD_BYTES):
            raise _headers_too_large()
        if end < 0:
            if _NEVER.search(buffer, max(0, self._seen - 1)):
                raise malformed("Control characters, and CR or LF alone, stand in no header (RFC 9112, 2.2).")
            self._lines += buffer.count(b"\n", self._seen)
            self._seen = len(buffer)
            if self._lines > most:
                raise _headers_too_large()
            return None
        lines = bytes(buffer[: end + 2])
        del buffer[: end + 4]
        self._seen = self._lines = 0
        return lines
