"""A fast path that reads plain JSON of a model with msgspec, in little more than half of pydantic's time.

It derives the checks from pydantic's schema of the model, so a contract is declared once. JSON that is not plain or not
valid, and schemas this module does not support, are left to pydantic. So acceptance, values and errors are pydantic's
(a property test compares the two), with one difference: all fields count as given in `model_fields_set`.
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
"""PostgreSQL cannot store U+0000 in text, so the gateway refuses it."""

_MET_BY_PLAIN = {None, NO_CONTROL, NO_NUL}
"""Patterns that every plain text matches, plain meaning without escapes and U+007F: JSON can contain all other control
characters only as escapes."""
_VALIDATORS_MET_BY_PLAIN = {visible_id, visible_label}
"""Validators that every plain text passes which is not `suspicious`."""

_ESCAPE, _DELETE = ord("\\"), 0x7F
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _UnknownError(Exception):
    """A part of a schema that this module does not support: pydantic reads such models."""


class _Part(NamedTuple):
    """The type that msgspec decodes, and the function that converts a decoded value to the model's (None: as it is)."""

    type: Any
    build: Callable[[Any], Any] | None = None


@cache
def reader(model: type[BaseModel]) -> Callable[[bytes], Any]:
    """A function that reads JSON of the model; it returns None for JSON that must be left to pydantic."""
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
    """Convert a node of pydantic's schema; raises _UnknownError if it has a type or an option not supported here."""
    if schema["type"] not in _KNOWN:
        raise _UnknownError(schema["type"])
    known, convert = _KNOWN[schema["type"]]
    if schema.keys() - known - {"type", "ref", "metadata", "serialization"}:
        raise _UnknownError(schema["type"])
    return convert(schema)


def _text(schema: Any) -> _Part:
    pattern = schema.get("pattern")
    bounds = {name: schema[name] for name in ("min_length", "max_length") if name in schema}
    if pattern not in _MET_BY_PLAIN:
        bounds["pattern"] = pattern
    return _Part(Annotated[str, msgspec.Meta(**bounds)] if bounds else str)


def _validated(schema: Any) -> _Part:
    """A schema with a validator function: only validators that plain text passes are supported."""
    if schema["function"]["function"] not in _VALIDATORS_MET_BY_PLAIN:
        raise _UnknownError("function-before")
    return _part(schema["schema"])


def _number(schema: Any) -> _Part:
    if not (schema.get("strict") and schema.get("allow_inf_nan") is False):  # if not strict, pydantic also reads text
        raise _UnknownError("float")
    return _Part(Annotated[float, msgspec.Meta(ge=schema.get("ge"), le=schema.get("le"))])


def _boolean(schema: Any) -> _Part:
    if not schema.get("strict"):
        raise _UnknownError("bool")
    return _Part(bool)


def _enum(schema: Any) -> _Part:
    return _Part(schema["cls"])


def _first_choice(schema: Any) -> _Part:
    """A union: values of its first choice are read here, all others are left to pydantic."""
    if schema.get("mode") != "left_to_right":
        raise _UnknownError("union")
    return _part(schema["choices"][0])


def _list(schema: Any) -> _Part:
    item = _part(schema["items_schema"])
    if item.build:
        raise _UnknownError("list")
    return _Part(Annotated[list[item.type], msgspec.Meta(max_length=schema.get("max_length"))])  # type: ignore[name-defined]


def _model(schema: Any) -> _Part:
    """A model: msgspec decodes a struct of its fields, from which the instance is created without validating again."""
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
    """A field's part, and its definition in the struct. A null is left to pydantic, as `Event.data` omits nulls."""
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

    def build(struct: Any) -> Any:
        values = values_of(struct)
        for name, build_part in nested:
            if values[name] is not None:
                values[name] = build_part(values[name])
        instance = object.__new__(model)  # the result of `model_construct` in a tenth of its time
        object.__setattr__(instance, "__dict__", values)
        _put_fields_set(instance, fields)
        _put_extra(instance, None)
        _put_private(instance, None)
        return instance

    return build


_put_fields_set, _put_extra, _put_private = (
    vars(BaseModel)[slot].__set__ for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


_KNOWN: dict[str, tuple[frozenset[str], Callable[[Any], _Part]]] = {
    "str": (frozenset({"min_length", "max_length", "pattern"}), _text),
    "function-before": (frozenset({"function", "schema"}), _validated),
    "float": (frozenset({"strict", "allow_inf_nan", "ge", "le"}), _number),
    "bool": (frozenset({"strict"}), _boolean),
    "enum": (frozenset({"cls", "members", "sub_type"}), _enum),
    "union": (frozenset({"choices", "mode", "custom_error_type", "custom_error_context"}), _first_choice),
    "list": (frozenset({"items_schema", "max_length"}), _list),
    "model": (frozenset({"cls", "config", "custom_init", "root_model", "schema"}), _model),
}
"""By type of schema node: the options supported here, and the function that converts the node."""
