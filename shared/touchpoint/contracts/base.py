"""What every event is: CloudEvents attributes (`Meta`) around data whose class declares type, topic and bounds."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Self, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from touchpoint.contracts.topics import WRITERS

IDENTITY_NAMESPACE = uuid5(NAMESPACE_URL, "urn:touchpoint:event")

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot store U+0000 in text, so it is refused at the door."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An id another system gave: 1–200 characters, no control characters."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A word to group by, such as a tag, a tier or a segment."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
"""What people call it."""

LongText = Annotated[str, StringConstraints(max_length=50_000, pattern=NO_NUL)]
"""What a person wrote or said."""

Amount = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=2)]
"""Money. JSON numbers are read as doubles: beyond 15 digits write it as a string."""

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _within_reach(moment: datetime) -> datetime:
    if not EARLIEST <= moment < LATEST:
        raise broken("time_out_of_reach", "the year must lie between 1900 and 2199")
    return moment


Moment = Annotated[AwareDatetime, Strict(), AfterValidator(_within_reach)]
"""A point in time as RFC 3339 text, 1900–2199; the offset from UTC is required."""


def identity(tenant: str, source: str, event_id: str) -> UUID:
    """The event's own id across all tenants and sources: what the inbox deduplicates on."""
    return uuid5(IDENTITY_NAMESPACE, f"{tenant}\x1f{source}\x1f{event_id}")


@dataclass(frozen=True, slots=True)
class Meta:
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
        """What the inbox deduplicates on."""
        return identity(self.tenant, self.source, self.id)


class Event(BaseModel):
    """Base of all events: the fields are the event's data, `meta` its CloudEvents attributes.

    Strict as written (unknown fields are refused: the gateway's side). Consumers read with `read_tolerantly`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: ClassVar[str]
    topic: ClassVar[str]
    version: ClassVar[int] = 1
    _meta: Meta | None = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "type" in cls.__dict__ and REGISTRY.setdefault(cls.type, cls) is not cls:
            raise TypeError(f"two contracts declare the event type {cls.type!r}")

    @property
    def meta(self) -> Meta:
        """The CloudEvents attributes; an event that was read or is to be published always has them."""
        if self._meta is None:
            raise ValueError(f"{self.type} has no attributes yet: use with_meta() or caused_by()")
        return self._meta

    def with_meta(self, meta: Meta) -> Self:
        """Attach the attributes and return the event itself."""
        self._meta = meta
        return self

    def caused_by(self, cause: Meta, *key: str, time: datetime | None = None) -> Self:
        """Attach attributes derived from `cause`: the same cause and key always give the same id.

        `key` tells apart several events of one type with one cause. `time` is when it occurred, the cause's by
        default.
        """
        event_id = uuid5(cause.identity, "/".join((self.type, *key)))
        source = f"/touchpoint/{WRITERS[self.topic]}"
        return self.with_meta(
            replace(cause, id=str(event_id), source=source, time=time or cause.time, topic="", partition=-1, offset=-1)
        )

    @property
    def partition_key(self) -> str:
        """`tenant:customer`; without a customer, the submission or else the event itself."""
        owner = getattr(self, "customer_id", None) or getattr(self, "submission_id", None) or self.meta.id
        return f"{self.meta.tenant}:{owner}"

    def data(self) -> bytes:
        """The fields as JSON. Null and absent mean the same, so nulls are left out.

        A value newer than this version (see `read_tolerantly`) is written back as it came, without a warning.
        """
        return self.model_dump_json(exclude_none=True, warnings=False).encode()

    @classmethod
    def dataschema(cls) -> str:
        """The contract and its version, as the CloudEvents attribute of that name carries it."""
        return f"urn:touchpoint:{cls.type}:{cls.version}"

    @classmethod
    def read_tolerantly(cls, raw: bytes) -> Self:
        """Validate a consumer's record: unknown fields are dropped and an unknown enum value stays as plain text.

        A newer writer must not make an older reader dead-letter. Raises `pydantic.ValidationError` on anything else.
        """
        try:
            return cls.model_validate_json(raw, extra="ignore", context=TOLERANT)
        except ValidationError as error:
            unknown = [e for e in error.errors(include_url=False, include_input=False) if e["type"] == "enum"]
            if len(unknown) != error.error_count():
                raise
            return cls._read_around(json.loads(raw), [e["loc"] for e in unknown])

    @classmethod
    def _read_around(cls, data: Any, places: list[tuple[int | str, ...]]) -> Self:
        """Validate with a stand-in at each unknown enum value, then put the values back as they came."""
        values = [_dig(data, place[:-1])[place[-1]] for place in places]
        for place in places:
            parent = cls._enum_at(place)
            _dig(data, place[:-1])[place[-1]] = parent
        event = cls.model_validate(data, extra="ignore", context=TOLERANT)
        for place, value in zip(places, values, strict=True):
            owner: Any = event
            for step in place[:-1]:
                owner = owner[step] if isinstance(step, int) else getattr(owner, step)
            owner.__dict__[place[-1]] = value
        return event

    @classmethod
    def _enum_at(cls, place: tuple[int | str, ...]) -> Any:
        model: type[BaseModel] = cls
        for step in place[:-1]:
            if isinstance(step, str):
                model = _annotated(model, step, BaseModel)
        return next(iter(_annotated(model, str(place[-1]), Enum))).value


TOLERANT: JsonDict = {"tolerant": True}
"""Validation context of consumers: rules between fields belong to the door and are not checked again."""


def tolerant(info: ValidationInfo) -> bool:
    """Whether a consumer is reading: rules between fields then let everything pass."""
    return info.context == TOLERANT


def broken(rule: str, reason: str) -> PydanticCustomError:
    """The error for a broken rule, to raise in a validator: its stable name, and what is wrong and would be right."""
    return PydanticCustomError(rule, "{reason}", {"reason": reason})


REGISTRY: dict[str, type[Event]] = {}
"""Every declared event by its type."""

E = TypeVar("E", bound=Event)
_T = TypeVar("_T")


def _dig(data: Any, place: tuple[int | str, ...]) -> Any:
    for step in place:
        data = data[step]
    return data


def _annotated(model: type[BaseModel], field: str, kind: type[_T]) -> type[_T]:
    """The class of `kind` among a field's annotation, looking through unions."""
    annotation = model.model_fields[field].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, kind):
            return candidate
    raise LookupError(f"{model.__name__}.{field} holds no {kind.__name__}")


def example(**fields: Any) -> JsonDict:
    """A contract's example for its JSON Schema."""
    return {"examples": [fields]}
