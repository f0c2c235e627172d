import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.compatibility import breaks
from touchpoint.contracts.schema import file_name, json_schema

COMMITTED = Path(__file__).parents[3] / "docs" / "events"


def with_field(name: str = "tier", required: bool = False, **field: Any) -> dict[str, Any]:
    """A contract with this single field."""
    return {"type": "object", "properties": {name: field}, "required": [name] if required else []}


def either(*types: str) -> dict[str, Any]:
    return {"anyOf": [{"type": name} for name in types]}


class TestCommittedContracts:
    @pytest.mark.parametrize("path", sorted(COMMITTED.glob("*.json")), ids=lambda path: path.stem)
    def test_are_kept_by_the_code(self, path: Path) -> None:
        now = {file_name(event): json_schema(event) for event in REGISTRY.values()}
        assert path.name in now, "a published event type stays"
        assert breaks(json.loads(path.read_text()), now[path.name]) == []

    def test_exist_for_every_event(self) -> None:
        assert {path.name for path in COMMITTED.glob("*.json")} == {file_name(event) for event in REGISTRY.values()}


TIGHTENED = "data.tier: minimum tightened from None to 0"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (with_field(type="string"), with_field("level", type="string"), "data.tier: removed or renamed"),
        (with_field(type="string"), with_field(type="integer"), "data.tier: string became integer"),
        (with_field(type="integer"), with_field(type="number"), "data.tier: integer became number"),
        (with_field(**either("string", "null")), with_field(type="string"), "data.tier: null became string"),
        (with_field(type="string"), with_field(required=True, type="string"), "data.tier: made required"),
        ({"type": "object"}, with_field(required=True, type="string"), "data.tier: added as required"),
        (
            with_field(type="string", maxLength=9),
            with_field(type="string", maxLength=8),
            "data.tier: maxLength tightened from 9 to 8",
        ),
        (
            with_field(type="number"),
            with_field(type="number", minimum=0),
            "data.tier: minimum tightened from None to 0",
        ),
        (
            with_field(type="string", enum=["a", "b", "c"]),
            with_field(type="string", enum=["a"]),
            "data.tier: enum lost b, c",
        ),
        (with_field(type="string"), with_field(type="string", enum=["a"]), "data.tier: restricted to an enum"),
        (
            with_field(type="string", pattern="^a$"),
            with_field(type="string", pattern="^b$"),
            "data.tier: pattern changed from ^a$ to ^b$",
        ),
        (
            with_field(type="string"),
            with_field(type="string", contentEncoding="base64"),
            "data.tier: contentEncoding changed from None to base64",
        ),
        (
            with_field(type="string", default="normal"),
            with_field(type="string", default="high"),
            "data.tier: default changed from normal to high",
        ),
        (
            with_field(type="array", items={"type": "string", "maxLength": 9}),
            with_field(type="array", items={"type": "string", "maxLength": 8}),
            "data.tier[]: maxLength tightened from 9 to 8",
        ),
        (
            {"type": "object", "properties": {}},
            {"type": "object", "properties": {}, "additionalProperties": False},
            "data: unknown fields are now refused",
        ),
    ],
)
def test_a_breaking_change_is_named(old: dict[str, Any], new: dict[str, Any], reason: str) -> None:
    assert breaks(old, new) == [reason]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "object"}, with_field(type="string")),
        (with_field(type="string"), with_field(**either("string", "null"))),
        (with_field(type="string", maxLength=8), with_field(type="string", maxLength=9)),
        (with_field(type="string", maxLength=8), with_field(type="string")),
        (with_field(type="string", enum=["a"]), with_field(type="string", enum=["b", "a"])),
        (with_field(type="string", pattern="^a$"), with_field(type="string")),
        (with_field(type="string", description="a"), with_field(type="string", description="b")),
    ],
)
def test_added_fields_and_relaxed_constraints_are_allowed(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert breaks(old, new) == []


def test_a_change_behind_a_reference_is_found() -> None:
    def scored(limit: int) -> dict[str, Any]:
        field = {"anyOf": [{"$ref": "#/$defs/Score"}, {"type": "null"}]}
        return with_field("score", **field) | {"$defs": {"Score": with_field("value", type="number", maximum=limit)}}

    assert breaks(scored(10), scored(5)) == ["data.score.value: maximum tightened from 10 to 5"]


scalars = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("integer")}, optional={"minimum": st.integers(-3, 0), "maximum": st.integers(1, 3)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": st.integers(0, 1), "maxLength": st.integers(1, 3)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("string"), "enum": st.lists(st.sampled_from("abc"), min_size=1, unique=True)}
    ),
    st.just({"type": "null"}),
)
fields = st.one_of(scalars, st.fixed_dictionaries({"anyOf": st.lists(scalars, min_size=1, max_size=3)}))
arrays = st.fixed_dictionaries({"type": st.just("array"), "items": fields}, optional={"maxItems": st.integers(0, 3)})


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from("xyz"), st.one_of(fields, arrays)))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    return {"type": "object", "properties": properties, "required": required}


def accepts(schema: dict[str, Any], data: Any) -> bool:
    return bool(jsonschema.Draft7Validator(schema).is_valid(data))


@given(contracts())
def test_a_contract_never_breaks_itself(contract: dict[str, Any]) -> None:
    assert breaks(contract, contract) == []


@st.composite
def changes(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A field before and after a change: keywords dropped, added or changed, or the whole field redefined."""
    old = draw(st.one_of(scalars, fields, arrays))
    similar = draw(st.one_of(scalars.filter(lambda field: field["type"] == old.get("type")), fields, arrays))
    kept = {key: old[key] for key in old if draw(st.booleans())}
    return old, draw(st.sampled_from([similar, similar | kept]))


def conforming(field: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a field accepts."""
    if "anyOf" in field:
        return st.one_of([conforming(choice) for choice in field["anyOf"]])
    if "enum" in field:
        return st.sampled_from(field["enum"])
    if field["type"] == "array":
        return st.lists(conforming(field["items"]), max_size=field.get("maxItems", 4))
    if field["type"] == "integer":
        return st.integers(field.get("minimum", -4), field.get("maximum", 4))
    if field["type"] == "string":
        return st.text("abcd", min_size=field.get("minLength", 0), max_size=field.get("maxLength", 4))
    return st.none()


@given(changes(), st.data())
def test_a_change_that_refuses_data_valid_before_is_always_found(
    change: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    old, new = (with_field(**field) for field in change)
    written = [{"tier": value} for value in data.draw(st.lists(conforming(change[0]), min_size=5, max_size=10))]
    assert all(accepts(old, each) for each in written)
    assert breaks(old, new) or all(accepts(new, each) for each in written)


@given(contracts(), st.sampled_from("xyz"), fields)
def test_an_optional_field_may_always_be_added_and_never_removed(
    contract: dict[str, Any], name: str, field: dict[str, Any]
) -> None:
    without = contract | {"properties": {key: value for key, value in contract["properties"].items() if key != name}}
    without["required"] = [key for key in contract["required"] if key != name]
    grown = without | {"properties": without["properties"] | {name: field}}
    assert breaks(without, grown) == []
    assert breaks(grown, without) == [f"data.{name}: removed or renamed"]
