"""Events to and from Kafka records: CloudEvents 1.0, Kafka binding, binary mode (attributes in `ce_*` headers)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from touchpoint.contracts.base import Event, Meta
from touchpoint.errors import PermanentError

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent to or was read from Kafka. `topic` is the logical name, without a deployment's prefix."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    partition: int = -1
    offset: int = -1


class DecodeError(PermanentError):
    """The record is no event of ours. `stage` names where it failed: decode (headers, JSON) or validate (contract)."""

    def __init__(self, message: str, stage: str = "decode") -> None:
        super().__init__(message)
        self.stage = stage


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as CloudEvents wants it."""
    return f"{moment.astimezone(UTC).isoformat()[:-6]}Z"


def headers(meta: Meta, kind: type[Event]) -> Headers:
    """The record headers of an event."""
    found = [
        ("ce_specversion", b"1.0"),
        ("ce_id", meta.id.encode()),
        ("ce_source", meta.source.encode()),
        ("ce_type", kind.type.encode()),
        ("ce_time", timestamp(meta.time).encode()),
        ("ce_dataschema", kind.dataschema().encode()),
        ("ce_tenant", meta.tenant.encode()),
        ("ce_recordedtime", timestamp(meta.recorded).encode()),
        ("content-type", b"application/json"),
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


def header(found: Iterable[tuple[str, bytes]], name: str) -> str | None:
    """One header's text, None when it is absent; raises DecodeError when it is not UTF-8."""
    for key, value in found:
        if key == name:
            return _text(name, value)
    return None


def decode_meta(record: Record) -> Meta:
    """The attributes of a record; raises DecodeError naming the header that is missing or wrong."""
    found = {name: _text(name, value) for name, value in record.headers}
    try:
        time = found["ce_time"]
        return Meta(
            id=found["ce_id"],
            source=found["ce_source"],
            tenant=found["ce_tenant"],
            time=_moment("ce_time", time),
            recorded=_moment("ce_recordedtime", found.get("ce_recordedtime", time)),
            backfill=found.get("ce_backfill") == "true",
            subject=found.get("ce_subject"),
            traceparent=found.get("traceparent"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
    except KeyError as missing:
        raise DecodeError(f"header {missing.args[0]} is missing") from None


def decode(record: Record, handled: Mapping[str, type[Event]]) -> Event | None:
    """The event in a record; None when its type is not `handled` (told by the header alone, before any decoding).

    Raises DecodeError: it becomes a dead letter.
    """
    kind = header(record.headers, "ce_type")
    if kind is None:
        raise DecodeError("header ce_type is missing")
    model = handled.get(kind)
    if model is None:
        return None
    meta = decode_meta(record)
    try:
        return model.read_tolerantly(record.value).with_meta(meta)
    except ValidationError as error:
        places = sorted({f"{'.'.join(map(str, e['loc'])) or 'data'}: {e['type']}" for e in error.errors()})
        raise DecodeError("; ".join(places[:5]), stage="validate") from None


def _text(name: str, value: bytes | None) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        raise DecodeError(f"header {name} is not UTF-8") from None


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DecodeError(f"header {name} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise DecodeError(f"header {name} has no offset from UTC")
    return moment
