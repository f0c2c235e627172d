"""Converts JSON Schema 2020-12, as pydantic and FastAPI write it, to schemas of OpenAPI 3.0.3.

Client generators support 3.0 best: docs/adr/0020 has the generators tried, and the results.
"""

import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_INNER = ("properties", "items", "additionalProperties")
_CHOICES = ("anyOf", "oneOf", "allOf")
_NULL = {"type": "null"}
_INT32 = 2**31 - 1
_LEFT_OUT = ("title", "propertyNames")
"""Pydantic's titles are not unique, and generators name types after them. 3.0 has no `propertyNames`."""
_GENERIC = re.compile(r"(\w+?)_(\w+?)(?:Read)?_")


def generic_name(name: str) -> str:
    """A schema's name: FastAPI's for a generic class, such as Page_FeedbackRead_, becomes FeedbackPage."""
    return _GENERIC.sub(r"\2\1", name)


class Converter:
    """Converts parts of a document. `schemas`: those of the document, by name."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        self._schemas = schemas

    def part(self, part: Any) -> Any:
        """A copy of any part, with the schemas in it converted."""
        if isinstance(part, list):
            return [self.part(each) for each in part]
        if not isinstance(part, dict):
            return part
        return {key: self.schema(value) if key == "schema" else self.part(value) for key, value in part.items()}

    def schema(self, original: Json) -> Json:
        """A converted copy of a schema, with the schemas in it."""
        made: Json = {}
        for key, value in original.items():
            if key in _INNER:
                made |= self._inner(key, value)
            elif key in _CHOICES:
                made |= self._choices(key, value)
            else:
                made |= _keyword(key, value)
        if made.get("type") == "integer" and made.get("maximum", _INT32 + 1) > _INT32:
            made["format"] = "int64"  # otherwise generated Go and Java use 32 bits
        if "$ref" in made and len(made) > 1:  # 3.0 ignores keywords beside a $ref
            made = self._beside(made)
        return made

    def _beside(self, made: Json) -> Json:
        """A reference with further keywords. A nullable object is written inline, as 3.0 has no nullable reference."""
        named = made.pop("$ref")
        if "nullable" in made:
            referred = self._schemas[named.rpartition("/")[2]]
            if referred["type"] == "object":
                return self.schema(referred) | made
            made["type"] = referred["type"]
        return made | {"allOf": [{"$ref": named}]}

    def _inner(self, key: str, value: Any) -> Json:
        if key == "properties":
            return {key: {name: self.schema(each) for name, each in value.items()}}
        return {key: self.schema(value) if isinstance(value, dict) else value}

    def _choices(self, key: str, value: list[Json]) -> Json:
        kept = [self.schema(each) for each in value if each != _NULL]
        if len(kept) < len(value):
            kept[0]["nullable"] = True
        return kept[0] if len(kept) == 1 else {key: kept}


def _keyword(key: str, value: Any) -> Json:
    """The equivalent in 3.0.3 of a keyword without a schema in it."""
    match key:
        case "type" if isinstance(value, list):
            [kind] = [each for each in value if each != "null"]
            return {"type": kind, "nullable": True}
        case "const":
            return {"enum": [value]}
        case "examples":
            return {"example": value[0]}
        case "exclusiveMinimum" | "exclusiveMaximum":
            return {key.replace("exclusiveM", "m"): value, key: True}
    left_out = key in _LEFT_OUT or (key == "default" and value in (None, []))
    return {} if left_out else {key: value}
