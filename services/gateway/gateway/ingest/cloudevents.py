"""CloudEvents 1.0 over HTTP: reads attributes and data of a request, in structured, binary and batch mode.

The attributes' meaning is checked elsewhere. `data` is kept byte by byte, never decoded and encoded again.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

import msgspec

from touchpoint.http.errors import FieldError, ProblemError

RawHeaders = Iterable[tuple[bytes, bytes]]

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPECIFIED = (msgspec.json.Decoder(str | None), "must be a string")
_Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_EXTENSION = (
    msgspec.json.Decoder(str | bool | _Integer | None),
    "must be a string, a boolean or a whole number of 32 bits; write a larger one as a string",
)
_TEXT = msgspec.json.Decoder(str)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

MAX_MEMBERS = 100
"""Members of an event's JSON object: many more than it can need."""
_SUSPICIOUS_COMMAS = 100_000
_HALF_A_PAIR = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")

_NAME = re.compile(r"[a-z0-9]{1,50}")
_CE = b"ce-"
_JSON = re.compile(r"application/([a-z0-9.-]+\+)?json")


class Mode(StrEnum):
    """The content modes of CloudEvents' HTTP binding."""

    STRUCTURED = "structured"
    BINARY = "binary"
    BATCH = "batch"


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """An event whose attributes are all common and strings: decoded in a single step, in a third of the time."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw = msgspec.Raw()


_USUAL = msgspec.json.Decoder(_Usual)
_NAMES = tuple(name for name in _Usual.__struct_fields__ if name != "data")


class Parsed(NamedTuple):
    """An event as it was sent. Attributes are strings as in HTTP headers: a boolean is `true` or `false`."""

    attributes: dict[str, str]
    data: bytes


def invalid(*errors: FieldError) -> ProblemError:
    """The problem of an event that breaks the rules."""
    return ProblemError(422, "validation-failed", "The event is not valid; see errors.", errors=errors)


def malformed(error: Exception, raw: bytes | msgspec.Raw) -> ProblemError:
    """The problem of a body that is not JSON."""
    reason = str(error)
    if isinstance(error, RecursionError):
        reason = "nested too deeply"
    elif _HALF_A_PAIR.search(raw):
        reason = "half of a surrogate pair is no character"
    return ProblemError(400, "malformed-json", f"The body is not JSON in UTF-8: {reason}.")


def mode(content_type: str | None, headers: RawHeaders) -> Mode:
    """The content mode of a request. Raises ProblemError 415 when it is none of them."""
    media_type = _media_type(content_type)
    if media_type == "application/cloudevents+json":
        return Mode.STRUCTURED
    if media_type == "application/cloudevents-batch+json":
        return Mode.BATCH
    if not any(name.startswith(_CE) for name, _ in headers):
        raise _unsupported(
            "send Content-Type application/cloudevents+json or application/cloudevents-batch+json, or the attributes "
            "as ce-… headers; plain JSON goes to /v1/feedback"
        )
    check_json(content_type)
    return Mode.BINARY


def check_json(content_type: str | None) -> None:
    """Raise ProblemError 415 unless the media type is JSON in UTF-8, or missing."""
    media_type = _media_type(content_type)
    if media_type and not _JSON.fullmatch(media_type):
        raise _unsupported(f"{media_type} is not taken; send Content-Type application/json")


class TooManyItemsError(ValueError):
    """A batch has more items than the limit."""


def batch(body: bytes, most: int) -> list[msgspec.Raw]:
    """The undecoded items of a batch. Raises ProblemError 400 when it is not a JSON array, and TooManyItemsError."""
    try:
        if body.count(b",") > _SUSPICIOUS_COMMAS:
            _at_most(most).decode(body)
        items = _ITEMS.decode(body)
    except _UNREADABLE as error:
        if str(error).startswith("Expected `array` of at most"):
            raise TooManyItemsError(most) from None
        raise malformed(error, body) from None
    if len(items) > most:
        raise TooManyItemsError(most)
    return items


@lru_cache(1)
def _at_most(count: int) -> msgspec.json.Decoder[Any]:
    """A decoder that fails at the first item above the limit: a list of all would take fifty times their bytes."""
    places = [(f"_{number}", msgspec.Raw, msgspec.Raw()) for number in range(count)]
    return msgspec.json.Decoder(msgspec.defstruct("AtMost", places, array_like=True, forbid_unknown_fields=True))


def structured(raw: bytes | msgspec.Raw) -> Parsed:
    """Read an event in JSON. Raises ProblemError 400 or 422 naming the errors."""
    try:
        usual = _USUAL.decode(raw)
    except _UNREADABLE:
        all_members = members(raw)
        data = _data(all_members)
        return Parsed(attributes(all_members), data)
    given = {name: value for name in _NAMES if (value := getattr(usual, name)) is not None}
    return Parsed(given, bytes(usual.data))


def members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The undecoded members of a JSON object. Raises ProblemError 400 or 422."""
    try:
        decoded = _MEMBERS.decode(raw)
    except msgspec.ValidationError:
        raise invalid(FieldError(field="body", reason="must be a JSON object")) from None
    except _UNREADABLE as error:
        raise malformed(error, raw) from None
    if len(decoded) > MAX_MEMBERS:
        raise invalid(FieldError(field="body", reason=f"may have {MAX_MEMBERS} members, not {len(decoded)}"))
    return decoded


def attributes(given: dict[str, msgspec.Raw]) -> dict[str, str]:
    """Members as attributes; a null member is absent. Raises ProblemError 422."""
    read, errors = dict[str, str](), list[FieldError]()
    for name, raw in given.items():
        decoder, reason = _SPECIFIED if name in _NAMES else _EXTENSION
        try:
            value = decoder.decode(raw)
        except _UNREADABLE:
            errors.append(FieldError(field=name[:60], reason=reason))
            continue
        if value is not None:
            read[name] = value if isinstance(value, str) else str(value).lower()
    _check_names(given, errors)
    return read


def binary(content_type: str | None, headers: RawHeaders, body: bytes) -> Parsed:
    """Read an event from `ce-…` headers, with the body as its data. Raises ProblemError 422 naming the errors."""
    read, errors = dict[str, str](), list[FieldError]()
    for header, value in headers:
        if not header.startswith(_CE):
            continue
        name = header[len(_CE) :].decode("latin-1")
        if name in read:
            errors.append(FieldError(field=name, reason=f"the header ce-{name} is given twice"))
        try:
            read[name] = _header_text(value)
        except UnicodeDecodeError:
            errors.append(FieldError(field=name, reason="a header holds percent-encoded UTF-8"))
    if content_type:
        read["datacontenttype"] = content_type
    _check_names(read, errors)
    return Parsed(read, body)


def _media_type(content_type: str | None) -> str:
    media_type, _, parameters = (content_type or "").lower().partition(";")
    charset = re.search(r'charset="?([^";\s]+)', parameters)
    if charset and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise _unsupported(f"charset {charset[1]} is not taken; send UTF-8")
    return media_type.strip()


def _data(given: dict[str, msgspec.Raw]) -> bytes:
    """Remove the data from an event's members, and return it."""
    plain, encoded = given.pop("data", None), given.pop("data_base64", None)
    if encoded is None or bytes(encoded) == b"null":
        return b"" if plain is None else bytes(plain)
    if plain is not None:
        raise invalid(FieldError(field="data_base64", reason="send either data or data_base64"))
    try:
        return base64.b64decode(_TEXT.decode(encoded), validate=True)
    except (*_UNREADABLE, binascii.Error, ValueError):
        raise invalid(FieldError(field="data_base64", reason="this is not Base64")) from None


def _header_text(value: bytes) -> str:
    """A header's value, which may be quoted and percent-encoded (CloudEvents' HTTP binding, 3.1.3.2)."""
    text = value.decode()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return unquote(text, errors="strict")


def _check_names(names: Iterable[str], errors: list[FieldError]) -> None:
    for name in names:
        if not _NAME.fullmatch(name) or name == "data":
            reason = "not an attribute's name: 1–50 letters a–z and digits, and not data"
            errors.append(FieldError(field=name[:60], reason=reason))
    if errors:
        raise invalid(*errors)


def _unsupported(reason: str) -> ProblemError:
    return ProblemError(415, "unsupported-media-type", f"The body cannot be read: {reason}.")
