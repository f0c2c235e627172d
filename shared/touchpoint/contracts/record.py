"""Events to and from Kafka records: CloudEvents 1.0, Kafka binding, binary mode (attributes in `ce_*` headers)."""

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
"""Of an event's data. The gateway takes half of it. What a service makes of an event adds less than that to it, so it
always fits into a record."""
MAX_ATTRIBUTE_CHARACTERS = 1000
"""Of an attribute that is stored with an event. The gateway takes 200; PostgreSQL can index 2,700 bytes."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is sent to or was read from Kafka. `topic` is the logical name, without a deployment's prefix."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    partition: int = -1
    offset: int = -1
    appended: int = 0
    """When Kafka appended it, in milliseconds since 1970."""


class Flawed(bytes):
    """The value of a record that breaks Kafka's own rules, and how (`fault`): it is never an event.

    With `offsets` it is the bytes of a whole batch that cannot be read, and these are its first and last offset.
    """

    fault: str
    offsets: tuple[int, int] | None

    def __new__(cls, value: bytes, fault: str, offsets: tuple[int, int] | None = None) -> "Flawed":
        """The value as it was read."""
        made = super().__new__(cls, value)
        made.fault, made.offsets = fault, offsets
        return made


def fingerprint(record: Record) -> bytes:
    """What tells a record from any other that may come to lie at its offset: when it was appended, key and value."""
    digest = hashlib.blake2b(record.appended.to_bytes(8, "big", signed=True), digest_size=16)
    digest.update(len(record.key).to_bytes(4, "big"))
    digest.update(record.key)
    digest.update(record.value)
    return digest.digest()


class DecodeError(PermanentError):
    """The record is not one of the events that contracts declare.

    `stage` names where it failed: read (Kafka's own format), decode (headers, JSON) or validate (contract).
    """

    def __init__(self, message: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.stage = stage


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as CloudEvents wants it."""
    return _timestamp(moment).decode()


def _timestamp(moment: datetime) -> bytes:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return msgspec.json.encode(moment)[1:-1]


@cache
def _headers_of(kind: type[Event]) -> Headers:
    """What all events of a contract have in their headers."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", kind.type.encode()),
        ("ce_dataschema", kind.dataschema().encode()),
        ("content-type", b"application/json"),
    ]


def headers(meta: Meta, kind: type[Event]) -> Headers:
    """The record headers of an event."""
    found = [
        *_headers_of(kind),
        ("ce_id", meta.id.encode()),
        ("ce_source", meta.source.encode()),
        ("ce_time", _timestamp(meta.time)),
        ("ce_tenant", meta.tenant.encode()),
        ("ce_recordedtime", _timestamp(meta.recorded)),
    ]
    if meta.subject is not None:
        found.append(("ce_subject", meta.subject.encode()))
    if meta.backfill:
        found.append(("ce_backfill", b"true"))
    if meta.traceparent is not None:
        found.append(("traceparent", meta.traceparent.encode()))
    return found


def encode(event: Event) -> Record:
    """An event with its attributes as the record to send."""
    return Record(
        topic=event.topic,
        key=event.partition_key.encode(),
        value=event.data(),
        headers=headers(event.meta, type(event)),
    )


def encode_extended(event: Event, kind: type[Event], **more: Any) -> Record:
    """An event of `kind` caused by `event`, with all its data and some more, as the record to send.

    The data is taken as valid: the event's was.
    """
    meta = event.meta.causing(kind)
    return Record(
        topic=kind.topic,
        key=event.key_with(meta).encode(),
        value=msgspec.json.encode(more)[:-1] + b"," + event.data()[1:],
        headers=headers(meta, kind),
    )


def owner_of(record: Record) -> tuple[str, str]:
    """Tenant and customer in a record's key (without a customer, what stands there instead), as PostgreSQL can have it.

    What a stranger wrote may be neither UTF-8 nor free of U+0000.
    """
    tenant, _, customer = record.key.decode(errors="replace").replace("\x00", "\ufffd").partition(":")
    return tenant, customer


def attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, bytes | None]:
    """The headers by name, without those attributes of an event that occur twice: nobody can say which one counts."""
    found = dict(headers)
    if len(found) < len(headers):
        for name in _repeated(headers):
            del found[name]
    return found


def _repeated(headers: Sequence[tuple[str, bytes | None]]) -> list[str]:
    counts = Counter(name for name, _ in headers)
    return [name for name, n in counts.items() if n > 1 and (name.startswith("ce_") or name == "traceparent")]


def _meta(found: Mapping[str, bytes | None], record: Record) -> Meta:
    time = _moment(found, "ce_time")
    return Meta(
        _word(found, "ce_id"),
        _word(found, "ce_source"),
        _word(found, "ce_tenant"),
        time,
        _moment(found, "ce_recordedtime") if "ce_recordedtime" in found else time,
        found.get("ce_backfill") == b"true",
        _text(found, "ce_subject") if "ce_subject" in found else None,
        _text(found, "traceparent") if "traceparent" in found else None,
        record.topic,
        record.partition,
        record.offset,
    )


def decode(record: Record, handled: Mapping[str, type[Event]]) -> Event | None:
    """The event in a record; None when its type is not `handled` (told by the header alone, before any decoding).

    Raises DecodeError, whatever a producer wrote into the record: it becomes a dead letter.
    """
    if isinstance(record.value, Flawed):
        raise DecodeError(record.value.fault, stage="read")
    found = attributes(record.headers)
    if len(found) < len(record.headers):
        for name in _repeated(record.headers):
            if name != "traceparent":
                raise DecodeError(f"header {name} occurs more than once")
    model = handled.get(_text(found, "ce_type"))
    if model is None:
        return None
    if len(record.value) > MAX_DATA_BYTES:
        raise DecodeError(f"data has more than {MAX_DATA_BYTES:,} bytes")
    meta = _meta(found, record)
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
    except Exception as error:  # a parser's own limit, such as on nesting or on digits
        raise DecodeError(f"data cannot be read: {type(error).__name__}", stage="validate") from None


def _word(found: Mapping[str, bytes | None], name: str) -> str:
    """An attribute that must say something, and that PostgreSQL can store."""
    text = _text(found, name)
    if not text or "\x00" in text:
        raise DecodeError(f"header {name} is empty, or has U+0000 in it")
    return text


def _text(found: Mapping[str, bytes | None], name: str) -> str:
    try:
        text = (found[name] or b"").decode()
    except KeyError:
        raise DecodeError(f"header {name} is missing") from None
    except UnicodeDecodeError:
        raise DecodeError(f"header {name} is not UTF-8") from None
    if len(text) > MAX_ATTRIBUTE_CHARACTERS:
        raise DecodeError(f"header {name} has more than {MAX_ATTRIBUTE_CHARACTERS:,} characters")
    return text


def _moment(found: Mapping[str, bytes | None], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(found, name))
    except ValueError:
        raise DecodeError(f"header {name} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise DecodeError(f"header {name} has no offset from UTC")
    if not EARLIEST <= moment < LATEST:
        raise DecodeError(f"header {name} is not between the years 1900 and 2199")
    return moment
