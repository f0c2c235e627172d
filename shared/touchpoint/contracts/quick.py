"""Reads plain JSON of a model in little more than half of pydantic's time, with the same result.

What is checked is taken from pydantic's own schema of the model, so a contract stays the one declaration. Whatever is
not plain, not valid, or of a kind this module does not know is left to pydantic: acceptance, values and errors are its
own either way (a property test holds that). Only which fields were given is not told: all count as such.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import BaseModel

from touchpoint.contracts.characters import suspicious, visible_id, visible_label
from touchpoint.contracts.reasons import described

NO_CONTROL = described(r"^[^\x00-\x1f\x7f]+$", "must not be empty or contain control characters")
NO_NUL = described(r"^[^\x00]*$", "must not contain U+0000 (NUL): leave it out")
"""PostgreSQL cannot store U+0000 in text, so it is refused at the door."""

_HELD_WHERE_PLAIN = {None, NO_CONTROL, NO_NUL}
"""Patterns that no text without escapes and without U+007F breaks: other control characters JSON only has escaped."""
_VALIDATORS_HELD_WHERE_PLAIN = {visible_id, visible_label}

_ESCAPE, _DELETE = ord("\\"), 0x7F
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _UnknownError(Exception):
    """A part of a schema is not understood; pydantic reads such models."""


class _Part(NamedTuple):
    """What msgspec is to expect, and how what it finds becomes a value of the model; None: it is one already."""

    type: Any
    build: Callable[[Any], Any] | None = None


@cache
def reader(model: type[BaseModel]) -> Callable[[bytes], Any]:
    """Answers the function that reads the model's JSON; it answers None where pydantic is to read."""
    try:
        part = _part(model.__pydantic_core_schema__)
    except _UnknownError:
        return lambda _: None
    decode, build = msgspec.json.Decoder(part.type).decode, part.build
    assert build is not None

    def read(raw: bytes) -> Any:
        if _ESCAPE in raw or _DELETE in raw or raw[:1] != b"{" or suspicious(raw):
            return None
        try:
            return build(decode(raw))
        except _UNREADABLE:
            return None

    return read


def _part(schema: Any) -> _Part:
    """A node of pydantic's schema; raises _UnknownError at anything that could mean more than is understood."""
    if schema["type"] not in _KNOWN:
        raise _UnknownError(schema["type"])
    known, understood = _KNOWN[schema["type"]]
    if schema.keys() - known - {"type", "ref", "metadata", "serialization"}:
        raise _UnknownError(schema["type"])
    return understood(schema)


def _text(schema: Any) -> _Part:
    pattern = schema.get("pattern")
    bounds = {name: schema[name] for name in ("min_length", "max_length") if name in schema}
    if pattern not in _HELD_WHERE_PLAIN:
        bounds["pattern"] = pattern
    return _Part(Annotated[str, msgspec.Meta(**bounds)] if bounds else str)


def _validated(schema: Any) -> _Part:
    """A schema that a function validates: what the function may be, then its inner schema."""
    if schema["function"]["function"] not in _VALIDATORS_HELD_WHERE_PLAIN:
        raise _UnknownError("function-before")
    return _part(schema["schema"])


def _number(schema: Any) -> _Part:
    if not (schema.get("strict") and schema.get("allow_inf_nan") is False):  # else it would be read from text, too
        raise _UnknownError("float")
    return _Part(Annotated[float, msgspec.Meta(ge=schema.get("ge"), le=schema.get("le"))])


def _truth(schema: Any) -> _Part:
    if not schema.get("strict"):
        raise _UnknownError("bool")
    return _Part(bool)


def _words(schema: Any) -> _Part:
    return _Part(schema["cls"])


def _choice(schema: Any) -> _Part:
    """What fits the first choice is read as such; the rest is pydantic's."""
    if schema.get("mode") != "left_to_right":
        raise _UnknownError("union")
    return _part(schema["choices"][0])


def _list(schema: Any) -> _Part:
    item = _part(schema["items_schema"])
    if item.build:
        raise _UnknownError("list")
    return _Part(Annotated[list[item.type], msgspec.Meta(max_length=schema.get("max_length"))])  # type: ignore[name-defined]


def _model(schema: Any) -> _Part:
    """A struct of the model's fields, from which the model is made without asking it again."""
    model, config = schema["cls"], schema.get("config", {})
    if config.keys() - {"title", "extra_fields_behavior"} or schema.get("custom_init") or schema.get("root_model"):
        raise _UnknownError("model")
    fields = schema["schema"]
    if fields["type"] != "model-fields" or fields.get("computed_fields"):
        raise _UnknownError(fields["type"])
    parts, places = dict[str, _Part](), list[Any]()
    for name, field in fields["fields"].items():
        if field.keys() - {"type", "schema", "metadata"}:
            raise _UnknownError(name)
        parts[name], place = _field(name, field["schema"])
        places.append(place)
    struct = msgspec.defstruct(model.__name__, places, forbid_unknown_fields=True, kw_only=True, gc=False)
    nested = [(name, part.build) for name, part in parts.items() if part.build]
    return _Part(struct, _builder(model, nested))


def _field(name: str, schema: Any) -> tuple[_Part, tuple[Any, ...]]:
    """A field's part, and its place in the struct. An explicit null is not plain: `Event.data` leaves nulls out."""
    if schema["type"] != "default":
        part = _part(schema)
        return part, (name, part.type)
    if schema.keys() - {"type", "schema", "default", "default_factory", "default_factory_takes_data", "metadata"}:
        raise _UnknownError("default")
    inner = schema["schema"]
    part = _part(inner["schema"] if inner["type"] == "nullable" else inner)
    if "default_factory" in schema:
        return part, (name, part.type, msgspec.field(default_factory=schema["default_factory"]))
    return part, (name, part.type, schema["default"])


def _builder(model: type[BaseModel], nested: list[tuple[str, Callable[[Any], Any]]]) -> Callable[[Any], Any]:
    fields, values_of = set(model.model_fields), msgspec.structs.asdict

    def build(found: Any) -> Any:
        values = values_of(found)
        for name, build_part in nested:
            if values[name] is not None:
                values[name] = build_part(values[name])
        made = object.__new__(model)  # as `model_construct` does, which takes ten times as long
        object.__setattr__(made, "__dict__", values)
        _put_fields_set(made, fields)
        _put_extra(made, None)
        _put_private(made, None)
        return made

    return build


_put_fields_set, _put_extra, _put_private = (
    vars(BaseModel)[slot].__set__ for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


_KNOWN: dict[str, tuple[frozenset[str], Callable[[Any], _Part]]] = {
    "str": (frozenset({"min_length", "max_length", "pattern"}), _text),
    "function-before": (frozenset({"function", "schema"}), _validated),
    "float": (frozenset({"strict", "allow_inf_nan", "ge", "le"}), _number),
    "bool": (frozenset({"strict"}), _truth),
    "enum": (frozenset({"cls", "members", "sub_type"}), _words),
    "union": (frozenset({"choices", "mode", "custom_error_type", "custom_error_context"}), _choice),
    "list": (frozenset({"items_schema", "max_length"}), _list),
    "model": (frozenset({"cls", "config", "custom_init", "root_model", "schema"}), _model),
}
"""Each type of schema: what it may say, and who understands it."""
