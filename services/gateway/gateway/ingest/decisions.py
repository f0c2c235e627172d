"""Checks an event before it becomes a record: the rules of its attributes, and the contract of its data."""

import re
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

from pydantic import ValidationError

from gateway.ingest.cloudevents import Parsed, invalid
from touchpoint.base import times
from touchpoint.contracts import characters, sources
from touchpoint.contracts import record as codec
from touchpoint.contracts.base import REGISTRY, Event, Meta
from touchpoint.contracts.order import CLOCKS_DIFFER
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import TOUCHPOINTS, WRITERS
from touchpoint.http.errors import FieldError, ProblemError, field_errors

MAX_EVENT_BYTES = 256 * 1024
MAX_EXTENSIONS = 20

_TOO_MANY = 40
"""With more errors in an event's data only their number is named: pydantic builds all of them or none."""

TYPES = {name: event for name, event in REGISTRY.items() if event.topic == TOUCHPOINTS}
"""The event types that clients may send."""

RESERVED = {
    "tenant": "the tenant comes from the API key: leave it out",
    "recordedtime": "the gateway stamps it: leave it out",
    "datakeyid": "reserved for encrypted data: leave it out",
}

_SPECIFIED = {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"}
_UNDERSTOOD = _SPECIFIED | {"backfill", "traceparent"}
MAX_ID, MAX_SUBJECT, MAX_EXTENSION = 200, 500, 1000
"""Maximum numbers of characters."""
_DOTS = (".", "..")
_DOTS_REFUSED = "must not be . or ..: HTTP clients drop such a segment of the address that tells the event's status"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_USUAL_CONTENT = (None, "application/json")
_JSON = re.compile(r"application/([a-z0-9.-]+\+)?json *(;.*)?", re.IGNORECASE)


_wrong_source = lru_cache(1000)(sources.wrong)
"""Cached: a source names a system, so the same few sources are checked again and again."""


def too_large(size: int | None = None) -> ProblemError:
    """The problem of an event above the limit."""
    actual = "more" if size is None else size
    return ProblemError(
        413, "event-too-large", f"An event may have {MAX_EVENT_BYTES} bytes (256 KiB); this one has {actual}."
    )


def accept(parsed: Parsed, tenant: str, received: datetime, traceparent: str | None = None) -> tuple[Meta, Record]:
    """The event's attributes, and the record to send, whose value is the data exactly as received.

    `traceparent` is the request's; the event's own has precedence. Raises ProblemError 422 naming every error.
    """
    attributes = _Attributes(parsed.attributes)
    kind = attributes.kind()
    meta = Meta(
        attributes.id(),
        attributes.source(),
        tenant,
        attributes.time(received),
        received,
        attributes.backfill(),
        attributes.subject(),
        attributes.traceparent() or traceparent,
    )
    extensions = attributes.extensions()
    event = _validated(kind, parsed.data, attributes.errors) if kind else None
    if event is None or attributes.errors:
        raise invalid(*attributes.errors)
    headers = codec.headers(meta, type(event)) + extensions
    return meta, Record(event.topic, event.key_with(meta).encode(), parsed.data, headers)


def usable_traceparent(value: str | None) -> str | None:
    """A request's traceparent header. A malformed value is ignored, as W3C Trace Context asks."""
    return value if value and _TRACEPARENT.fullmatch(value) else None


def _validated(kind: type[Event], data: bytes, errors: list[FieldError]) -> Event | None:
    if not data:
        errors.append(FieldError(field="data", reason=f"{kind.type} needs data: a JSON object"))
        return None
    try:
        event = kind.read(data)
    except ValidationError as error:
        if (count := error.error_count()) > _TOO_MANY:
            errors.append(FieldError(field="data", reason=f"has {count} errors, too many to name"))
            return None
        broken = field_errors(error.errors(include_url=False, include_input=False))
        errors += [FieldError(field=f"data.{e.field}".removesuffix(".body")[:200], reason=e.reason) for e in broken]
        with suppress(ValidationError):  # if only names or enum values are unknown, the other rules can be checked too
            errors += _broken_rules(kind.read_tolerantly(data))
        return None
    errors += _broken_rules(event)
    return event


def _broken_rules(event: Event) -> list[FieldError]:
    return [FieldError(field=f"data.{broken.field}", reason=broken.reason) for broken in event.broken_rules()]


class _Attributes:
    """Reads the attributes and collects their errors."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.errors: list[FieldError] = []

    def wrong(self, name: str, reason: str) -> None:
        self.errors.append(FieldError(field=name, reason=reason))

    def id(self) -> str:
        value = self.given.get("id")
        if value is None:
            self.wrong("id", f"is required: a string of 1–{MAX_ID} characters")
        elif not 1 <= len(value) <= MAX_ID:
            self.wrong("id", f"must have 1–{MAX_ID} characters")
        elif value in _DOTS:
            self.wrong("id", _DOTS_REFUSED)
        else:
            self._characters("id", value, characters.IN_IDS)
        return value or ""

    def source(self) -> str:
        value = self.given.get("source")
        if value is None:
            self.wrong("source", "is required: a URI reference that names the system, such as /crm/eu")
        elif value in _DOTS:
            self.wrong("source", _DOTS_REFUSED)
        elif (reason := _wrong_source(value)) is not None:
            self.wrong("source", reason)
        return value or ""

    def subject(self) -> str | None:
        value = self.given.get("subject")
        if value is None:
            return None
        if not 1 <= len(value) <= MAX_SUBJECT:
            self.wrong("subject", f"must have 1–{MAX_SUBJECT} characters")
        else:
            self._characters("subject", value, characters.CONTROL)
        return value

    def _characters(self, name: str, value: str, excluded: re.Pattern[str]) -> None:
        if reason := characters.refused(value, excluded):
            self.wrong(name, reason)

    def kind(self) -> type[Event] | None:
        """The contract of the event's type; also checks the attributes that depend on it."""
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
            moment = times.read(value)
        except ValueError as error:
            self.wrong("time", str(error))
            return received
        if not times.EARLIEST <= moment < times.LATEST:
            self.wrong("time", times.YEARS)
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
        """Record headers for the extension attributes, which are passed on."""
        headers = codec.Headers()
        if self.given.keys() <= _UNDERSTOOD:
            return headers
        for name, value in self.given.items():
            if name in _UNDERSTOOD:
                continue
            if name in RESERVED:
                self.wrong(name, RESERVED[name])
            elif len(value) > MAX_EXTENSION:
                self.wrong(name, f"an extension has at most {MAX_EXTENSION} characters")
            elif reason := characters.refused(value, characters.CONTROL):
                self.wrong(name, reason)
            else:
                headers.append((f"ce_{name}", value.encode()))
        if len(headers) > MAX_EXTENSIONS:
            self.wrong("body", f"an event may have {MAX_EXTENSIONS} extension attributes, not {len(headers)}")
        return headers
