"""What the gateway asks of an event before it becomes a record: its attributes' rules and its contract."""

import re
from contextlib import suppress
from datetime import datetime

from pydantic import ValidationError

from gateway.cloudevents import Parsed, invalid
from touchpoint.contracts.base import EARLIEST, LATEST, REGISTRY, Event, Meta
from touchpoint.contracts.order import CLOCKS_DIFFER
from touchpoint.contracts.topics import TOUCHPOINTS, WRITERS
from touchpoint.http.errors import FieldError, ProblemError, field_errors
from touchpoint.kafka import codec
from touchpoint.kafka.codec import Record

MAX_EVENT_BYTES = 256 * 1024
MAX_EXTENSIONS = 20

_TOO_MANY = 40
"""Above so many errors in an event's data none is named: pydantic makes them all or none."""

TYPES = {name: event for name, event in REGISTRY.items() if event.topic == TOUCHPOINTS}
"""What may come in from outside."""

RESERVED = {
    "tenant": "the tenant comes from the API key: leave it out",
    "recordedtime": "the gateway stamps it: leave it out",
    "datakeyid": "reserved for encrypted data: leave it out",
}

_SPECIFIED = {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"}
_UNDERSTOOD = _SPECIFIED | {"backfill", "traceparent"}
_TEXTS = {
    "id": (re.compile(r"[^\x00-\x1f\x7f]{1,200}"), "1–200 characters, none of them a control character"),
    "source": (re.compile(r"[^\x00-\x20\x7f]{1,500}"), "a URI reference of 1–500 characters without blanks"),
    "subject": (re.compile(r"[^\x00-\x1f\x7f]{1,500}"), "1–500 characters, none of them a control character"),
}
_EXTENSION = re.compile(r"[^\x00-\x1f\x7f]{0,1000}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_USUAL_CONTENT = (None, "application/json")
_JSON = re.compile(r"application/([a-z0-9.-]+\+)?json *(;.*)?", re.IGNORECASE)


def too_large(size: int | None = None) -> ProblemError:
    """The problem of an event above the limit."""
    found = "more" if size is None else size
    return ProblemError(
        413, "event-too-large", f"An event may have {MAX_EVENT_BYTES} bytes (256 KiB); this one has {found}."
    )


def accept(parsed: Parsed, tenant: str, received: datetime, traceparent: str | None = None) -> tuple[Meta, Record]:
    """The event's attributes and the record to send for it, its data the very bytes that came.

    `traceparent` is the request's; the event's own goes first. Raises ProblemError 422 naming all that is wrong.
    """
    attributes = _Attributes(parsed.attributes)
    kind = attributes.kind()
    meta = Meta(
        attributes.text("id") or "",
        attributes.text("source") or "",
        tenant,
        attributes.time(received),
        received,
        attributes.backfill(),
        attributes.text("subject", required=False),
        attributes.traceparent() or traceparent,
    )
    extensions = attributes.extensions()
    event = _validated(kind, parsed.data, attributes.errors) if kind else None
    if event is None or attributes.errors:
        raise invalid(*attributes.errors)
    headers = codec.headers(meta, type(event)) + extensions
    return meta, Record(event.topic, event.key_with(meta).encode(), parsed.data, headers)


def usable_traceparent(value: str | None) -> str | None:
    """A request's traceparent header; one that is broken is ignored, as W3C Trace Context asks."""
    return value if value and _TRACEPARENT.fullmatch(value) else None


def _validated(kind: type[Event], data: bytes, errors: list[FieldError]) -> Event | None:
    if not data:
        errors.append(FieldError(field="data", reason=f"{kind.type} needs data: a JSON object"))
        return None
    try:
        event = kind.read(data)
    except ValidationError as error:
        if (count := error.error_count()) > _TOO_MANY:
            errors.append(FieldError(field="data", reason=f"{count} things are wrong with this {kind.type}"))
            return None
        found = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        errors += [FieldError(field=f"data.{e.field}".removesuffix(".body")[:200], reason=e.reason) for e in found]
        with suppress(ValidationError):  # where nothing but a name or a word is unknown, the rest can be told as well
            errors += _broken_rules(kind.read_tolerantly(data))
        return None
    errors += _broken_rules(event)
    return event


def _broken_rules(event: Event) -> list[FieldError]:
    return [FieldError(field=f"data.{broken.field}", reason=broken.reason) for broken in event.broken_rules()]


class _Attributes:
    """Reads the attributes one by one and collects what is wrong with them."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.errors: list[FieldError] = []

    def wrong(self, name: str, reason: str) -> None:
        self.errors.append(FieldError(field=name, reason=reason))

    def text(self, name: str, *, required: bool = True) -> str | None:
        value = self.given.get(name)
        pattern, reason = _TEXTS[name]
        if value is None:
            if required:
                self.wrong(name, f"is required: {reason}")
        elif not pattern.fullmatch(value):
            self.wrong(name, f"must be {reason}")
        return value

    def kind(self) -> type[Event] | None:
        """The contract; checks what the other attributes say of it, too."""
        given = self.given
        if given.get("specversion") != "1.0":
            self.wrong("specversion", "must be 1.0")
        name = given.get("type")
        kind = TYPES.get(name or "")
        if kind is None:
            self.wrong("type", self._why_not(name))
            return None
        schema = given.get("dataschema")
        if schema is not None and schema != kind.dataschema():
            self.wrong("dataschema", f"must be {kind.dataschema()}, or left out")
        content_type = given.get("datacontenttype")
        if content_type not in _USUAL_CONTENT and not _JSON.fullmatch(content_type):
            self.wrong("datacontenttype", "must be application/json, or left out")
        return kind

    @staticmethod
    def _why_not(name: str | None) -> str:
        if name is None:
            return f"is required, one of {', '.join(sorted(TYPES))}"
        if name in REGISTRY:
            return f"{name} is written by {WRITERS[REGISTRY[name].topic]} only"
        return f"unknown; must be one of {', '.join(sorted(TYPES))}"

    def time(self, received: datetime) -> datetime:
        value = self.given.get("time")
        if value is None:
            return received
        try:
            if not _TIME.fullmatch(value):
                raise ValueError(value)
            moment = datetime.fromisoformat(value.upper())
        except ValueError:
            self.wrong("time", "must be RFC 3339 with an offset, such as 2026-11-22T09:30:00Z")
            return received
        if not EARLIEST <= moment < LATEST:
            self.wrong("time", "the year must lie between 1900 and 2199")
        elif moment - received > CLOCKS_DIFFER:
            self.wrong("time", f"is more than 5 minutes ahead of the gateway's clock, {codec.timestamp(received)}")
        return moment

    def backfill(self) -> bool:
        value = self.given.get("backfill", "false").lower()
        if value not in ("true", "false"):
            self.wrong("backfill", "must be true or false")
        return value == "true"

    def traceparent(self) -> str | None:
        value = self.given.get("traceparent")
        if value is not None and not _TRACEPARENT.fullmatch(value):
            self.wrong("traceparent", "is not a W3C traceparent")
        return value

    def extensions(self) -> codec.Headers:
        """Headers for the attributes nobody here knows; they are passed on."""
        found = codec.Headers()
        if self.given.keys() <= _UNDERSTOOD:
            return found
        for name, value in self.given.items():
            if name in _UNDERSTOOD:
                continue
            if name in RESERVED:
                self.wrong(name, RESERVED[name])
            elif not _EXTENSION.fullmatch(value):
                self.wrong(name, "an extension has at most 1000 characters, none of them a control character")
            else:
                found.append((f"ce_{name}", value.encode()))
        if len(found) > MAX_EXTENSIONS:
            self.wrong("body", f"an event may have {MAX_EXTENSIONS} extension attributes, not {len(found)}")
        return found
