"""The gateway's published OpenAPI document, and validators of the schemas in it."""

import json
from importlib.resources import files
from typing import Any

import jsonschema_rs

DOCUMENT = json.loads(files("gateway").joinpath("openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft4Validator:
    """A validator of an OpenAPI 3.0.3 schema, which is JSON Schema's draft 4 except for `nullable`."""
    return jsonschema_rs.Draft4Validator(
        _draft_4(schema | {"components": DOCUMENT["components"]}), validate_formats=True
    )


def _draft_4(part: Any) -> Any:
    if isinstance(part, list):
        return [_draft_4(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {name: _draft_4(each) for name, each in part.items()}
    # Client generators read `nullable` beside an allOf as allowing null (ADR 0020).
    return {"anyOf": [made, {"type": "null"}]} if made.get("nullable") is True else made
