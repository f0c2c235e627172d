"""The rule of one value of an event: its source in the record and its conversion."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jmespath
from jmespath.parser import ParsedResult
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, model_validator

from touchpoint.importer import converters

ANY_OTHER = "*"


def _compiled(expression: Any) -> Any:
    if not isinstance(expression, str):
        raise ValueError("must be a JMESPath expression")
    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{expression!r} is not JMESPath: {str(error).splitlines()[0]}") from None


def _zone(name: Any) -> Any:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(f"{name!r} is not a time zone, such as Europe/Berlin") from None


Expression = Annotated[InstanceOf[ParsedResult], BeforeValidator(_compiled)]
Zone = Annotated[InstanceOf[ZoneInfo], BeforeValidator(_zone)]


class Part(BaseModel):
    """Base of all parts of a mapping; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(Part):
    """The source and the conversion of one value: source, then `as`, then `map`; null becomes `default`."""

    sources: list[Expression] = Field(
        default_factory=list,
        alias="from",
        description="JMESPath expressions; the first result that is not null is used",
    )
    column: str | None = Field(None, description="name of a column; not an expression")
    constant: Any = Field(None, description="a fixed value")
    convert: Literal["text", "lower", "number", "boolean", "list", "duration", "sha256_id", "time", "date"] | None = (
        Field(None, alias="as")
    )
    format: str | None = Field(None, description="of a time or date: iso, epoch_s, epoch_ms or a strptime format")
    zone: Zone | None = Field(None, description="time zone of times without an offset")
    map: dict[str, Any] | None = Field(None, description="value to new value; `*` matches any other value")
    default: Any = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        """Expand short forms: a text is an expression, one expression becomes a list, keys of a map become text."""
        if isinstance(given, str):
            return {"from": [given]}
        if not isinstance(given, dict):
            raise ValueError("must be a JMESPath expression, or a mapping with from, column or constant")
        given = dict(given)
        if "from" in given and not isinstance(given["from"], list):
            given["from"] = [given["from"]]
        if isinstance(given.get("map"), dict):
            given["map"] = {converters.text(key) or "": value for key, value in given["map"].items()}
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [name for name in ("sources", "column", "constant") if name in self.model_fields_set]
        if len(named) != 1 or (named == ["sources"] and not self.sources):
            raise ValueError("needs exactly one of from, column and constant")
        if (self.format or self.zone) and self.convert not in ("time", "date"):
            raise ValueError("format and zone belong to `as: time` or `as: date`")
        return self

    def value(self, record: Any, zone: ZoneInfo | None) -> Any:
        """This rule's value for a record. Raises ValueError with the reason if the record's value does not fit."""
        value = self._selected(record)
        if value is not None and self.convert is not None:
            value = self._converted(value, zone)
        if value is not None and self.map is not None:
            value = self._mapped(value)
        return self.default if value is None else value

    def _selected(self, record: Any) -> Any:
        if self.column is not None:
            return record.get(self.column) if isinstance(record, dict) else None
        for expression in self.sources:
            value = search(expression, record)
            if value is not None:
                return value
        return self.constant

    def _converted(self, value: Any, zone: ZoneInfo | None) -> Any:
        if self.convert == "time":
            return converters.moment(value, self.format, self.zone or zone)
        if self.convert == "date":
            return converters.day(value, self.format)
        return converters.PLAIN[self.convert](value) if self.convert else value

    def _mapped(self, value: Any) -> Any:
        assert self.map is not None
        key = converters.text(value) or ""
        if key not in self.map and ANY_OTHER not in self.map:
            raise ValueError(f"{key!r} is not in the map: {', '.join(self.map)}")
        return self.map.get(key, self.map.get(ANY_OTHER))


def search(expression: ParsedResult, record: Any) -> Any:
    """The result of a JMESPath expression. Raises ValueError if a function of it fails on this record."""
    try:
        return expression.search(record)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(str(error)) from None


class Time(Rule):
    """The rule of an event's time: always converted with `as: time`; `plus` adds a duration."""

    convert: Literal["time"] = Field("time", alias="as")
    plus: Rule | None = Field(None, description="a duration to add, in seconds or `as: duration`")
