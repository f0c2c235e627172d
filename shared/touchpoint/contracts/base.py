"""Base classes and field types of events: CloudEvents attributes (`Meta`) plus data, whose class is the contract."""

import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from hashlib import sha1
from typing import Annotated, Any, ClassVar, NamedTuple, Self, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from asyncpg.pgproto import pgproto
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from touchpoint.base import times
from touchpoint.base.times import EARLIEST, LATEST
from touchpoint.contracts import quick
from touchpoint.contracts.characters import TOLERANT, visible_id, visible_label
from touchpoint.contracts.quick import NO_CONTROL, NO_NUL
from touchpoint.contracts.topics import WRITERS

IDENTITY_NAMESPACE = pgproto.UUID(uuid5(NAMESPACE_URL, "urn:touchpoint:event").bytes)


class Broken(NamedTuple):
    """A violated rule: the field's dotted path, and the reason with what would be valid."""

    field: str
    reason: str


def refusal(rule: str, reason: str) -> PydanticCustomError:
    """The error for a validator to raise when a value violates `rule`; clients receive `reason` unchanged."""
    return PydanticCustomError(rule, "{reason}", {"reason": reason})


class Vocabulary(StrEnum):
    """An enum that newer versions may extend: the gateway refuses an unknown value, a consumer keeps it.

    A kept value becomes an unlisted member: it has a `value`, equals its text, is serialized unchanged and can be
    copied into other events, but it equals none of the declared members.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # A union, declared members first: a Python validator for every value would double the time of parsing.
        *others, last = map(repr, map(str, cls))
        known: dict[str, Any] = {**handler(source)}
        reference = known.pop("ref", None)
        return core_schema.union_schema(
            [cast("CoreSchema", known), core_schema.with_info_plain_validator_function(cls._kept)],
            mode="left_to_right",
            custom_error_type="enum",
            custom_error_context={"expected": f"{', '.join(others)} or {last}"},
            serialization=core_schema.simple_ser_schema("str"),
            ref=reference,
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema["choices"][0])

    @classmethod
    def _kept(cls, value: Any, info: ValidationInfo) -> Self:
        if not (info.context == TOLERANT and isinstance(value, str) and re.fullmatch(r"\w{1,100}", value)):
            raise ValueError(value)
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member


Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROL), BeforeValidator(visible_id)
]
"""An id assigned by another system: 1–200 visible characters."""

Label = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROL), BeforeValidator(visible_label)
]
"""A short text to group by, such as a tag, a tier or a segment."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
"""A display name."""

LongText = Annotated[str, StringConstraints(max_length=50_000, pattern=NO_NUL)]
"""Free text that a person wrote or said."""


def _plain_digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        raise refusal("not_plain_digits", 'write the number as plain digits, such as "48000.00"')
    return value


def _decimal_schema(places: int) -> WithJsonSchema:
    whole = 18 - places
    text = {"type": "string", "pattern": rf"^[0-9]{{1,{whole}}}(\.[0-9]{{1,{places}}})?$"}
    return WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 10**whole}, text]})


Amount = Annotated[
    Decimal, BeforeValidator(_plain_digits), Field(ge=0, max_digits=18, decimal_places=2), _decimal_schema(2)
]
"""An amount of money. JSON numbers are parsed as doubles: write amounts of more than 15 digits as a string."""

Quantity = Annotated[
    Decimal, BeforeValidator(_plain_digits), Field(ge=0, max_digits=18, decimal_places=6), _decimal_schema(6)
]
"""A quantity with at most six decimals."""


def _within_reach(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise refusal("time_out_of_reach", times.YEARS)
    return moment


def read_time(value: Any, info: ValidationInfo) -> Any:
    """Validator of times in text: RFC 3339 only. A consumer accepts other formats from before this rule existed."""
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str):
            return times.read(value)
    except ValueError as error:
        if info.context != TOLERANT:
            raise refusal("not_rfc3339", str(error)) from None
        return value
    raise refusal("not_rfc3339", times.FORM)  # a number would be read as seconds since 1970


Moment = Annotated[AwareDatetime, BeforeValidator(read_time), AfterValidator(_within_reach)]
"""A point in time as RFC 3339 text, 1900–2199; the offset from UTC is required."""


def _own_source(writer: str) -> str:
    return f"/touchpoint/{writer}"


_OWN_SOURCES = frozenset(map(_own_source, WRITERS.values()))


def name_uuid(namespace: UUID, name: str) -> UUID:
    """`uuid.uuid5` (RFC 9562, section 5.5) in a third of the time, as each event needs several.

    Returns asyncpg's subclass of `uuid.UUID`, which asyncpg sends to PostgreSQL without a conversion.
    """
    digest = bytearray(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # the version
    digest[8] = digest[8] & 0x3F | 0x80  # the variant
    name_based: UUID = pgproto.UUID(bytes(digest))
    return name_based


def identity(tenant: str, source: str, event_id: str) -> UUID:
    """The event's id, unique across all tenants and sources; the inbox deduplicates by it."""
    return name_uuid(IDENTITY_NAMESPACE, f"{tenant}\x1f{source}\x1f{event_id}")


class Meta(msgspec.Struct, frozen=True, dict=True):
    """The CloudEvents attributes of one event, and its position in the log."""

    id: str
    source: str
    tenant: str
    time: datetime
    """When the event occurred."""
    recorded: datetime
    """When the gateway accepted it; events derived from it inherit this time."""
    backfill: bool = False
    """Imported history: SLA clocks end by event time and nobody is paged."""
    subject: str | None = None
    traceparent: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    """The position at which a consumer read it; unset while an event is being created."""

    @property
    def identity(self) -> UUID:
        """The id by which the inbox deduplicates. Cached without the lock of `cached_property` in Python 3.11."""
        cache: dict[str, UUID] = self.__dict__
        value = cache.get("identity")
        if value is None:
            value = cache["identity"] = identity(self.tenant, self.source, self.id)
        return value

    @property
    def known_at(self) -> datetime:
        """When Touchpoint learned of it: when the gateway accepted it; for a timer's event, when the timer fired."""
        return max(self.recorded, self.time) if self.source in _OWN_SOURCES else self.recorded

    def causing(self, kind: "type[Event]", *key: str, time: datetime | None = None) -> "Meta":
        """The attributes of an event of `kind` caused by this one: the same cause, kind and key give the same id.

        `key` distinguishes several events of one kind and cause. `time` is when the event occurred, by default the
        time of its cause.
        """
        name, source = _published(kind)
        event_id = name_uuid(self.identity, "/".join((name, *key)) if key else name)
        return msgspec.structs.replace(
            self, id=str(event_id), source=source, time=time or self.time, topic="", partition=-1, offset=-1
        )


@cache
def _published(kind: "type[Event]") -> tuple[str, str]:
    """The type of the events of a contract, and the source of those that a service publishes."""
    return kind.type, _own_source(WRITERS[kind.topic])


class Event(BaseModel):
    """Base of all events: the fields are the event's data, `meta` its CloudEvents attributes.

    The gateway validates strictly (`read`, then `broken_rules`), consumers with `read_tolerantly`.
    """

    __slots__ = ("_written",)
    """The JSON the event was read from, if `data` may return it unchanged. Copies do not have it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: ClassVar[str]
    topic: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "type" in cls.__dict__ and REGISTRY.setdefault(cls.type, cls) is not cls:
            raise TypeError(f"two contracts declare the event type {cls.type!r}")

    @property
    def meta(self) -> Meta:
        """The CloudEvents attributes, which an event has once it was read or is published. Raises ValueError before."""
        # Pydantic's slot for private attributes, used directly: a declared one costs several microseconds per event.
        if self.__pydantic_private__ is None:
            raise ValueError(f"{self.type} has no attributes yet: use with_meta() or caused_by()")
        meta: Meta = self.__pydantic_private__["meta"]
        return meta

    def with_meta(self, meta: Meta) -> Self:
        """Set the attributes; returns this event."""
        object.__setattr__(self, "__pydantic_private__", {"meta": meta})
        return self

    def caused_by(self, cause: Meta, *key: str, time: datetime | None = None) -> Self:
        """Set the attributes of an event with this cause, as `Meta.causing` derives them; returns this event."""
        return self.with_meta(cause.causing(type(self), *key, time=time))

    @property
    def partition_key(self) -> str:
        """The Kafka key: `tenant:customer`; without a customer `tenant:submission`, else `tenant:event id`."""
        return self.key_with(self.meta)

    def key_with(self, meta: Meta) -> str:
        """The Kafka key of an event with this data and these attributes."""
        owner = getattr(self, "customer_id", None) or getattr(self, "submission_id", None) or meta.id
        return f"{meta.tenant}:{owner}"

    def data(self) -> bytes:
        """The fields that were given, as JSON. Nulls are omitted, as null and absent mean the same."""
        written: bytes | None = getattr(self, "_written", None)
        return written or self.model_dump_json(exclude_unset=True, exclude_none=True).encode()

    def broken_rules(self) -> list[Broken]:
        """The violated rules between fields. Only the gateway checks them; consumers do not."""
        return []

    @classmethod
    def dataschema(cls) -> str:
        """The value of the CloudEvents attribute `dataschema`: the contract and its version."""
        return f"urn:touchpoint:{cls.type}:{cls.version}"

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Validate data sent to the gateway: unknown fields and enum values are refused.

        Raises `pydantic.ValidationError`. Rules between fields are checked separately, by `broken_rules`.
        """
        return cls._read_plain(raw) or cls.model_validate_json(raw)

    @classmethod
    def read_tolerantly(cls, raw: bytes) -> Self:
        """Validate data read from Kafka: unknown fields are dropped, unknown values of a `Vocabulary` are kept.

        So an older consumer makes no dead letters of a newer writer's events. Anything else that is invalid raises
        `pydantic.ValidationError`.
        """
        return cls._read_plain(raw) or cls.model_validate_json(raw, extra="ignore", context=TOLERANT)

    @classmethod
    def _read_plain(cls, raw: bytes) -> Self | None:
        event: Self | None = quick.reader(cls)(raw)
        if event is not None:
            object.__setattr__(event, "_written", raw)
        return event


class PartialUpdate(Event):
    """Base of events that update only the given fields of an object: null clears a field, an absent field stays.

    The fields that identify the object, such as `customer_id`, are required. All others default to None.
    """

    @property
    def given(self) -> frozenset[str]:
        """The names of the given fields, including those given as null, without the required ones."""
        return frozenset(self.model_fields_set) - _required(type(self))

    @classmethod
    def _read_plain(cls, raw: bytes) -> None:
        """Leave these events to pydantic, as only pydantic records which fields were given."""

    def data(self) -> bytes:
        """Exactly the fields that were given, nulls included, as JSON."""
        return self.model_dump_json(exclude_unset=True).encode()


@cache
def _required(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.is_required())


REGISTRY: dict[str, type[Event]] = {}
"""All declared events by their type."""


def example(**fields: Any) -> JsonDict:
    """The example of a contract, for its JSON Schema."""
    return {"examples": [fields]}
