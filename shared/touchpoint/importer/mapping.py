"""The mapping language: a YAML file with the rules that make events from a record. See docs/import.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from touchpoint.base.errors import UsageError
from touchpoint.contracts import sources
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.reasons import reason
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.importer.rules import Expression, Part, Rule, Time, Zone

TYPES = {name: event for name, event in REGISTRY.items() if event.topic == TOUCHPOINTS}


class EventRule(Part):
    """The rule of one event per record, or with `each` one per item of a list in the record.

    With `each`, expressions see `{record, item, index}` instead of the record itself.
    """

    type: str
    name: str = Field("", description="distinguishes rules of the same type; part of the event's id")
    each: Expression | None = None
    when: Expression | None = Field(None, description="no event if the result is false, null or empty")
    id: Rule | None = Field(None, description="identifies an item of `each`; default: its index")
    time: Time
    data: dict[str, Rule] = Field(description="field of the contract (nested: address.city) to its rule")

    @model_validator(mode="before")
    @classmethod
    def _named_by_type(cls, given: Any) -> Any:
        return {"name": given.get("type", "")} | given if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fits_the_contract(self) -> Self:
        event = TYPES.get(self.type)
        if event is None:
            raise ValueError(f"type {self.type!r} is unknown; one of {', '.join(sorted(TYPES))}")
        if self.id is not None and self.each is None:
            raise ValueError("id belongs to an event with each")
        for name in self.data:
            if not _exists(event, name):
                raise ValueError(f"data.{name} is not in {self.type}; it has {', '.join(event.model_fields)}")
        given = {name.split(".")[0] for name in self.data}
        missing = [name for name, field in event.model_fields.items() if field.is_required() and name not in given]
        if missing:
            raise ValueError(f"{self.type} needs data.{', data.'.join(missing)}")
        return self


def _exists(model: type[BaseModel], name: str) -> bool:
    first, _, rest = name.partition(".")
    if first not in model.model_fields:
        return False
    annotation = model.model_fields[first].annotation
    parts = [part for part in (annotation, *getattr(annotation, "__args__", ())) if isinstance(part, type)]
    return not rest or any(issubclass(part, BaseModel) and _exists(part, rest) for part in parts)


def _a_source(given: str) -> str:
    if wrong := sources.wrong(given):
        raise ValueError(wrong)
    return given


Source = Annotated[str, AfterValidator(_a_source)]


class Csv(Part):
    """How a CSV file is written."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"


class Mapping(Part):
    """A complete mapping."""

    source: Source = Field(description="source of the events; source and id identify an event")
    id: Rule = Field(description="a unique and stable id of the record within this source")
    format: Literal["csv", "json", "jsonl"] | None = Field(None, description="default: by the file's name")
    records: str | None = Field(None, description="JSON: path of the list of records, such as data.items")
    csv: Csv = Csv()
    zone: Zone | None = Field(None, description="time zone of times without an offset")
    events: list[EventRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [event.name for event in self.events]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two events are named {name}: give each a name of its own")
        return self

    def columns(self) -> set[str]:
        """The columns this mapping names."""
        return {rule.column for rule in self._rules() if rule.column is not None}

    def _rules(self) -> Iterator[Rule]:
        yield self.id
        for event in self.events:
            yield from (rule for rule in (event.id, event.time, event.time.plus, *event.data.values()) if rule)


class _Loader(yaml.SafeLoader):
    """A YAML loader that keeps `yes`, `no` and dates as text and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; raises when a key is given twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))


def load(path: Path) -> Mapping:
    """Read a mapping. Raises UsageError that names each wrong key and the reason."""
    try:
        return Mapping.model_validate(yaml.load(path.read_text(), _Loader))  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise UsageError(f"the mapping {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {'; '.join(map(_line, error.errors()))}") from None


def _line(error: ErrorDetails) -> str:
    unknown = error["type"] == "extra_forbidden"
    return f"{_place(error['loc'])}: {'unknown key' if unknown else reason(error)}"


def _place(steps: tuple[int | str, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".") or "the file"
