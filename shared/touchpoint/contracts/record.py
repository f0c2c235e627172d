"""Convert events to Kafka records and back: CloudEvents 1.0, Kafka binding, binary mode (`ce_*` headers)."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from pydantic import ValidationError

from touchpoint.base.errors import PermanentError
from touchpoint.base.times import EARLIEST, LATEST
from touchpoint.contracts.base import Event, Meta

Headers = list[tuple[str, bytes]]

MAX_DATA_BYTES = 512 * 1024
"""Limit for an event's data. The gateway accepts half of it; a service adds less than the other half to an event that
it derives, so every derived event fits into a record."""
MAX_ATTRIBUTE_CHARACTERS = 1000
"""Limit for each attribute of an event. The gateway accepts 200 characters; PostgreSQL can index 2,700 bytes."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to send to Kafka or read from it. `topic` is the logical name, without the deployment's prefix."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    partition: int = -1
    offset: int = -1
    appended: int = 0
    """When Kafka appended the record, in milliseconds since 1970."""


class Flawed(bytes):
    """The value of a record that violates Kafka's format, and the violation (`fault`): it is never an event.

    With `offsets`, it is the bytes of a whole unreadable batch, and these are the batch's first and last offset.
    """

    fault: str
    offsets: tuple[int, int] | None

    def __new__(cls, value: bytes, fault: str, offsets: tuple[int, int] | None = None) -> "Flawed":
        """Wrap the bytes as they were read."""
        flawed = super().__new__(cls, value)
        flawed.fault, flawed.offsets = fault, offsets
        return flawed


def fingerprint(record: Record) -> bytes:
    """A hash of append time, key and value: tells whether the record at an offset is still the same one.

    Kafka reuses offsets when it has lost records or a topic was recreated.
    """
    digest = hashlib.blake2b(record.appended.to_bytes(8, "big", signed=True), digest_size=16)
    digest.update(len(record.key).to_bytes(4, "big"))
    digest.update(record.key)
    digest.update(record.value)
    return digest.digest()


class DecodeError(PermanentError):
    """The record does not contain a valid event.

    `stage` is where decoding failed: `read` (Kafka's format), `decode` (headers, key, size) or `validate` (data).
    """

    def __init__(self, message: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.stage = stage


def timestamp(moment: datetime) -> str:
    """A time as RFC 3339 text in UTC, as CloudEvents requires."""
    return _timestamp(moment).decode()


def _timestamp(moment: datetime) -> bytes:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return msgspec.json.encode(moment)[1:-1]


@cache
def _headers_of(kind: type[Event]) -> Headers:
    """The headers that all events of a contract have in common."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", kind.type.encode()),
        ("ce_dataschema", kind.dataschema().encode()),
        ("content-type", b"application/json"),
    ]


def headers(meta: Meta, kind: type[Event]) -> Headers:
    """The record headers of an event."""
    all_headers = [
        *_headers_of(kind),
        ("ce_id", meta.id.encode()),
        ("ce_source", meta.source.encode()),
        ("ce_time", _timestamp(meta.time)),
        ("ce_tenant", meta.tenant.encode()),
        ("ce_recordedtime", _timestamp(meta.recorded)),
    ]
    if meta.subject is not None:
        all_headers.append(("ce_subject", meta.subject.encode()))
    if meta.backfill:
        all_headers.append(("ce_backfill", b"true"))
    if meta.traceparent is not None:
        all_headers.append(("traceparent", meta.traceparent.encode()))
    return all_headers


def encode(event: Event) -> Record:
    """The record of an event."""
    return Record(
        topic=event.topic,
        key=event.partition_key.encode(),
        value=event.data(),
        headers=headers(event.meta, type(event)),
    )


def encode_extended(event: Event, kind: type[Event], **more: Any) -> Record:
    """The record of an event of `kind` caused by `event`: the data of `event` plus the fields `more`.

    The data is not validated, as that of `event` was.
    """
    meta = event.meta.causing(kind)
    return Record(
        topic=kind.topic,
        key=event.key_with(meta).encode(),
        value=msgspec.json.encode(more)[:-1] + b"," + event.data()[1:],
        headers=headers(meta, kind),
    )


def owner_of(record: Record) -> tuple[str, str]:
    """Tenant and customer (or its substitute, see `partition_key`) in a record's key, as text PostgreSQL can store.

    The key of a foreign producer may be invalid UTF-8 or contain U+0000: such bytes become U+FFFD.
    """
    tenant, _, customer = record.key.decode(errors="replace").replace("\x00", "\ufffd").partition(":")
    return tenant, customer


def attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, bytes | None]:
    """The headers by name, without event attributes that occur twice, as it is undefined which one is valid."""
    by_name = dict(headers)
    if len(by_name) < len(headers):
        for name in _repeated(headers):
            del by_name[name]
    return by_name


def _repeated(headers: Sequence[tuple[str, bytes | None]]) -> list[str]:
    counts = Counter(name for name, _ in headers)
    return [name for name, n in counts.items() if n > 1 and (name.startswith("ce_") or name == "traceparent")]


def _meta(headers: Mapping[str, bytes | None], record: Record) -> Meta:
    time = _moment(headers, "ce_time")
    return Meta(
        _required(headers, "ce_id"),
        _required(headers, "ce_source"),
        _required(headers, "ce_tenant"),
        time,
        _moment(headers, "ce_recordedtime") if "ce_recordedtime" in headers else time,
        headers.get("ce_backfill") == b"true",
        _text(headers, "ce_subject") if "ce_subject" in headers else None,
        _text(headers, "traceparent") if "traceparent" in headers else None,
        record.topic,
        record.partition,
        record.offset,
    )


def decode(record: Record, handled: Mapping[str, type[Event]]) -> Event | None:
    """The event in a record; None if its type, read from the header `ce_type`, is not among `handled`.

    Raises DecodeError, and nothing else, on an invalid record: the record becomes a dead letter.
    """
    if isinstance(record.value, Flawed):
        raise DecodeError(record.value.fault, stage="read")
    by_name = attributes(record.headers)
    if len(by_name) < len(record.headers):
        for name in _repeated(record.headers):
            if name != "traceparent":
                raise DecodeError(f"header {name} occurs more than once")
    model = handled.get(_text(by_name, "ce_type"))
    if model is None:
        return None
    if len(record.value) > MAX_DATA_BYTES:
        raise DecodeError(f"data has more than {MAX_DATA_BYTES:,} bytes")
    meta = _meta(by_name, record)
    event = _read(model, record.value).with_meta(meta)
    if event.partition_key.encode() != record.key:
        raise DecodeError("the key is not the tenant and customer of the event: it may have overtaken others of theirs")
    return event


def _read(model: type[Event], value: bytes) -> Event:
    try:
        return model.read_tolerantly(value)
    except ValidationError as error:
        places = sorted({f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['type']}" for e in error.errors()})
        raise DecodeError("; ".join(places[:5]), stage="validate") from None
    except Exception as error:  # a limit of the JSON parser, such as on nesting or digits
        raise DecodeError(f"data cannot be read: {type(error).__name__}", stage="validate") from None


def _required(headers: Mapping[str, bytes | None], name: str) -> str:
    """The value of a header that must not be empty or contain U+0000, which PostgreSQL cannot store."""
    text = _text(headers, name)
    if not text or "\x00" in text:
        raise DecodeError(f"header {name} is empty, or has U+0000 in it")
    return text


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    try:
        text = (headers[name] or b"").decode()
    except KeyError:
        raise DecodeError(f"header {name} is missing") from None
    except UnicodeDecodeError:
        raise DecodeError(f"header {name} is not UTF-8") from None
    if len(text) > MAX_ATTRIBUTE_CHARACTERS:
        raise DecodeError(f"header {name} has more than {MAX_ATTRIBUTE_CHARACTERS:,} characters")
    return text


def _moment(headers: Mapping[str, bytes | None], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(headers, name))
    except ValueError:
        raise DecodeError(f"header {name} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise DecodeError(f"header {name} has no offset from UTC")
    if not EARLIEST <= moment < LATEST:
        raise DecodeError(f"header {name} is not between the years 1900 and 2199")
    return moment
