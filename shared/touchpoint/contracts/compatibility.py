"""Check that a changed contract still accepts all data that the old one accepts.

The check compares two JSON Schemas. A contract may gain optional fields and relax constraints; a keyword that this
module does not know must not change. A relaxed contract needs its consumers deployed before the gateway.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

FLOORS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
CEILINGS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
STRUCTURE = {"type", "anyOf", "enum", "items", "properties", "required", "additionalProperties", "default"}
PROSE = {"title", "description", "examples", "$schema", "$id", "$defs"}


def breaks(old: Schema, new: Schema) -> list[str]:
    """The reasons why data valid for `old` would be refused by `new`, or change its meaning; empty if compatible."""
    return list(_compare(_inline(old, old), _inline(new, new), "data"))


def _inline(schema: Any, root: Schema) -> Any:
    """The schema with every `$ref` replaced by its target."""
    if isinstance(schema, list):
        return [_inline(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inlined = {key: _inline(value, root) for key, value in schema.items() if key not in ("$ref", "$defs")}
    if "$ref" in schema:
        inlined = _inline(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root) | inlined
    return inlined


def _compare(old: Schema, new: Schema, place: str) -> Iterator[str]:
    """Each alternative of the old schema needs an alternative of the same type now that accepts all its values."""
    if "anyOf" in new:
        for name in sorted(new.keys() - {"anyOf", "default", *PROSE}):
            if "anyOf" not in old or old.get(name) != new[name]:
                yield f"{place}: {name} added beside alternatives"
    now = new.get("anyOf", [new])
    for choice in old.get("anyOf", [old]):
        same_type = [other for other in now if other.get("type") == choice.get("type")]
        problems = [list(_compare_one(choice, other, place)) for other in same_type]
        if not problems:
            yield f"{place}: {choice.get('type')} became {' or '.join(str(other.get('type')) for other in now)}"
        elif all(problems):
            yield from problems[0]


def _compare_one(old: Schema, new: Schema, place: str) -> Iterator[str]:
    yield from _bounds(old, new, place)
    yield from _conditions(old, new, place)
    yield from _fields(old, new, place)
    if "items" in new:
        yield from _compare(old.get("items", {}), new["items"], f"{place}[]")


def _bounds(old: Schema, new: Schema, place: str) -> Iterator[str]:
    for name in FLOORS:
        if name in new and new[name] > old.get(name, float("-inf")):
            yield f"{place}: {name} tightened from {old.get(name)} to {new[name]}"
    for name in CEILINGS:
        if name in new and new[name] < old.get(name, float("inf")):
            yield f"{place}: {name} tightened from {old.get(name)} to {new[name]}"


def _conditions(old: Schema, new: Schema, place: str) -> Iterator[str]:
    """A condition (pattern, format) may be dropped but not changed: whether it became stricter is not decidable."""
    if "enum" in new and "enum" not in old:
        yield f"{place}: restricted to an enum"
    gone = [str(word) for word in old.get("enum", ()) if "enum" in new and word not in new["enum"]]
    if gone:
        yield f"{place}: enum lost {', '.join(gone)}"
    for name in sorted(new.keys() - {*FLOORS, *CEILINGS, *STRUCTURE, *PROSE}):
        if new[name] != old.get(name):
            yield f"{place}: {name} changed from {old.get(name)} to {new[name]}"


def _fields(old: Schema, new: Schema, place: str) -> Iterator[str]:
    was, now = old.get("properties", {}), new.get("properties", {})
    for name, before in was.items():
        if name not in now:
            yield f"{place}.{name}: removed or renamed"
            continue
        yield from _compare(before, now[name], f"{place}.{name}")
        if before.get("default") != now[name].get("default"):
            yield f"{place}.{name}: default changed from {before.get('default')} to {now[name].get('default')}"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{place}.{name}: {'made required' if name in was else 'added as required'}"
    if old.get("additionalProperties", True) and not new.get("additionalProperties", True):
        yield f"{place}: unknown fields are now refused"
