"""Every error of pydantic is replaced by a sentence of our own before it reaches a client."""

import re
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticKnownError
from pydantic_core._pydantic_core import list_all_errors

from touchpoint.contracts import escalations, feedback, touchpoints  # noqa: F401 (their events are in the registry)
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.reasons import PATTERNS, REASONS, reason

PYDANTICS_OWN = re.compile(
    r"\b(Input|Inputs|Field|String|Value error|Assertion|Unable|Keys|Data|Decimal|UUID input|Datetimes|URL input)\b",
)
NUMBER = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"}
REACHABLE = {
    "model-fields": {"missing", "extra_forbidden"},
    "model": {"model_type", "model_attributes_type", "json_invalid"},
    "str": {"string_type", "string_unicode", "string_too_short", "string_too_long"},
    "float": {"float_type", "float_parsing", "finite_number"} | NUMBER,
    "int": {"int_type", "int_parsing", "int_parsing_size", "int_from_float"} | NUMBER,
    "bool": {"bool_type", "bool_parsing"},
    "list": {"list_type", "too_long", "too_short"},
    "union": {"enum", "union_tag_invalid", "union_tag_not_found"},
    "enum": {"enum"},
    "decimal": {"decimal_type", "decimal_parsing", "decimal_max_digits", "decimal_max_places", "decimal_whole_digits"},
    "date": {"date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"},
    "datetime": {"datetime_type", "datetime_parsing", "datetime_object_invalid", "datetime_from_date_parsing"}
    | {"timezone_aware"},
    "uuid": {"uuid_type", "uuid_parsing", "uuid_version"},
    **{kind: set[str]() for kind in ("function-before", "function-after", "function-plain", "with-info", "no-info")},
    **{kind: set[str]() for kind in ("default", "nullable", "model-field")},
}
"""By the type of a node in a contract's schema: the errors that pydantic can raise for it."""


def kinds(schema: Any) -> set[str]:
    """The types of all nodes of a schema."""
    if isinstance(schema, list):
        return {kind for each in schema for kind in kinds(each)}
    if not isinstance(schema, dict):
        return set()
    below = {kind for key, each in schema.items() if key not in ("metadata", "serialization") for kind in kinds(each)}
    return below | ({schema["type"]} if isinstance(schema.get("type"), str) else set())


def as_raised(kind: str, context: dict[str, Any] | None) -> Any:
    """An error of this type, as an item of `ValidationError.errors()`."""

    def fail(_: object) -> None:
        raise PydanticKnownError(kind, context)  # type: ignore[arg-type] # the type is a Literal of all names

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[str, BeforeValidator(fail)]).validate_python("x")
    return caught.value.errors()[0]


@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: error["type"])
def test_every_pydantic_error_has_a_sentence_of_our_own(error):
    context = dict(error.get("example_context") or {})
    if error["type"] in ("value_error", "assertion_error"):
        context["error"] = "give a full hour"
    elif error["type"] == "too_long":
        context["actual_length"] = 3
    sentence = reason(as_raised(error["type"], context or None))
    assert sentence
    assert not PYDANTICS_OWN.search(sentence)


def test_every_error_that_a_contract_can_raise_is_in_the_table():
    used = {kind for event in REGISTRY.values() for kind in kinds(event.__pydantic_core_schema__)}
    assert used <= REACHABLE.keys()
    missing = {error for kind in used for error in REACHABLE[kind]} - REASONS.keys()
    assert not missing


def test_every_pattern_of_a_contract_has_a_sentence():
    def patterns(schema: Any) -> set[str]:
        each = schema if isinstance(schema, list) else schema.values() if isinstance(schema, dict) else ()
        here = {schema["pattern"]} if isinstance(schema, dict) and isinstance(schema.get("pattern"), str) else set()
        return here.union(*map(patterns, each))

    assert {p for event in REGISTRY.values() for p in patterns(event.__pydantic_core_schema__)} <= PATTERNS.keys()
