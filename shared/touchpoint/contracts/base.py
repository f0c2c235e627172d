"""What every event is: CloudEvents attributes (`Meta`) around data whose class declares type, topic and bounds."""

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
    """A rule that is broken: the field, dotted, and what is wrong and would be right."""

    field: str
    reason: str


def refusal(rule: str, reason: str) -> PydanticCustomError:
    """The error for a value that breaks a rule of its own, to raise in a validator."""
    return PydanticCustomError(rule, "{reason}", {"reason": reason})


class Vocabulary(StrEnum):
    """Words a newer version may add to: the door refuses one it does not know, a consumer keeps it.

    A kept word is an unlisted member: it has a `value`, equals its text, is written back as it came and passes into
    other events; it just equals none of the members.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Two choices, the known words first: asking a Python function about each of them doubles the time of reading.
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
"""An id another system gave: 1–200 characters, each of which can be seen."""

Label = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROL), BeforeValidator(visible_label)
]
"""A word to group by, such as a tag, a tier or a segment."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
"""What people call it."""

LongText = Annotated[str, StringConstraints(max_length=50_000, pattern=NO_NUL)]
"""What a person wrote or said."""


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
"""Money. JSON numbers are read as doubles: beyond 15 digits write it as a string."""

Quantity = Annotated[
    Decimal, BeforeValidator(_plain_digits), Field(ge=0, max_digits=18, decimal_places=6), _decimal_schema(6)
]
"""How much of something, to a millionth."""


def _within_reach(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise refusal("time_out_of_reach", times.YEARS)
    return moment


def read_time(value: Any, info: ValidationInfo) -> Any:
    """Validator of times in text: RFC 3339 only. What a consumer reads may be in the log from before that was held."""
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
    """`uuid.uuid5` at a third of its time: each event needs several (RFC 9562, section 5.5).

    What it answers equals a `uuid.UUID` and is one; asyncpg's own kind of it also goes to PostgreSQL as it is.
    """
    digest = bytearray(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # the version
    digest[8] = digest[8] & 0x3F | 0x80  # the variant
    found: UUID = pgproto.UUID(bytes(digest))
    return found


def identity(tenant: str, source: str, event_id: str) -> UUID:
    """The event's own id across all tenants and sources: what the inbox deduplicates on."""
    return name_uuid(IDENTITY_NAMESPACE, f"{tenant}\x1f{source}\x1f{event_id}")


class Meta(msgspec.Struct, frozen=True, dict=True):
    """The CloudEvents attributes of one event, and where it was read."""

    id: str
    source: str
    tenant: str
    time: datetime
    """When it occurred."""
    recorded: datetime
    """When the gateway took it in; what derives from an event inherits it."""
    backfill: bool = False
    """History being imported: clocks settle by event time and nobody is paged."""
    subject: str | None = None
    traceparent: str | None = None
    topic: str = ""
    partition: int = -1
    offset: int = -1
    """Where a consumer read it; unset on an event that is only being made."""

    @property
    def identity(self) -> UUID:
        """What the inbox deduplicates on; kept, without the lock that `cached_property` takes before Python 3.12."""
        kept: dict[str, UUID] = self.__dict__
        found = kept.get("identity")
        if found is None:
            found = kept["identity"] = identity(self.tenant, self.source, self.id)
        return found

    @property
    def known_at(self) -> datetime:
        """When it could first be known: when the gateway accepted it; of an event by a timer, when that fired."""
        return max(self.recorded, self.time) if self.source in _OWN_SOURCES else self.recorded

    def causing(self, kind: "type[Event]", *key: str, time: datetime | None = None) -> "Meta":
        """The attributes of an event of `kind` that this one causes: the same cause and key always give the same id.

        `key` tells apart several events of one type with one cause. `time` is when it occurred, the cause's by
        default.
        """
        event_id = name_uuid(self.identity, "/".join((kind.type, *key)))
        source = _own_source(WRITERS[kind.topic])
        return msgspec.structs.replace(
            self, id=str(event_id), source=source, time=time or self.time, topic="", partition=-1, offset=-1
        )


class Event(BaseModel):
    """Base of all events: the fields are the event's data, `meta` its CloudEvents attributes.

    The door reads strictly (`read`, then `broken_rules`), consumers with `read_tolerantly`.
    """

    __slots__ = ("_written",)
    """The data as it was read, where `data` would say the same. Copies do not have it."""

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
        """The CloudEvents attributes; an event that was read or is to be published always has them."""
        # Pydantic's slot for private attributes, used directly: a declared one costs several microseconds an event.
        if self.__pydantic_private__ is None:
            raise ValueError(f"{self.type} has no attributes yet: use with_meta() or caused_by()")
        meta: Meta = self.__pydantic_private__["meta"]
        return meta

    def with_meta(self, meta: Meta) -> Self:
        """Attach the attributes and return the event itself."""
        object.__setattr__(self, "__pydantic_private__", {"meta": meta})
        return self

    def caused_by(self, cause: Meta, *key: str, time: datetime | None = None) -> Self:
        """Attach the attributes of an event with this cause: see `Meta.causing`."""
        return self.with_meta(cause.causing(type(self), *key, time=time))

    @property
    def partition_key(self) -> str:
        """`tenant:customer`; without a customer, the submission or else the event itself."""
        return self.key_with(self.meta)

    def key_with(self, meta: Meta) -> str:
        """The key of an event with this data and these attributes."""
        owner = getattr(self, "customer_id", None) or getattr(self, "submission_id", None) or meta.id
        return f"{meta.tenant}:{owner}"

    def data(self) -> bytes:
        """The fields that were given, as JSON. Null and absent mean the same, so nulls are left out."""
        written: bytes | None = getattr(self, "_written", None)
        return written or self.model_dump_json(exclude_unset=True, exclude_none=True).encode()

    def broken_rules(self) -> list[Broken]:
        """The rules between fields that these values break. They belong to the door; no consumer asks again."""
        return []

    @classmethod
    def dataschema(cls) -> str:
        """The contract and its version, as the CloudEvents attribute of that name carries it."""
        return f"urn:touchpoint:{cls.type}:{cls.version}"

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Validate what comes in from outside: unknown fields and words are refused.

        Raises `pydantic.ValidationError`. What may be together is asked apart: `broken_rules`.
        """
        return cls._read_plain(raw) or cls.model_validate_json(raw)

    @classmethod
    def read_tolerantly(cls, raw: bytes) -> Self:
        """Validate a consumer's record: unknown fields are dropped, new values of a `Vocabulary` are kept.

        A newer writer must not make an older reader dead-letter. Raises `pydantic.ValidationError` on anything else.
        """
        return cls._read_plain(raw) or cls.model_validate_json(raw, extra="ignore", context=TOLERANT)

    @classmethod
    def _read_plain(cls, raw: bytes) -> Self | None:
        event: Self | None = quick.reader(cls)(raw)
        if event is not None:
            object.__setattr__(event, "_written", raw)
        return event


class PartialUpdate(Event):
    """Base of events that change of a thing only the fields given: null clears one, what is left out stays as it is.

    Its key names, such as `customer_id`, are required fields. All others have the default None.
    """

    @property
    def given(self) -> frozenset[str]:
        """The names of the fields that were given, null or not; without those of the key."""
        return frozenset(self.model_fields_set) - _required(type(self))

    @classmethod
    def _read_plain(cls, raw: bytes) -> None:
        """Pydantic reads these events: it alone knows which fields were given."""

    def data(self) -> bytes:
        """As JSON with exactly the fields that were given."""
        return self.model_dump_json(exclude_unset=True).encode()


@cache
def _required(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.is_required())


REGISTRY: dict[str, type[Event]] = {}
"""Every declared event by its type."""


def example(**fields: Any) -> JsonDict:
    """A contract's example for its JSON Schema."""
    return {"examples": [fields]}
