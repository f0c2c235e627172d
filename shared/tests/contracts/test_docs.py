import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from touchpoint.contracts import topics
from touchpoint.contracts.base import REGISTRY, Event
from touchpoint.contracts.schema import asyncapi, json_schema

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_documents_are_what_the_code_generates(generate: ModuleType) -> None:
    assert generate.stale() == {}, "run make docs"


def test_a_broken_contract_and_a_removed_one_are_both_reported(generate: ModuleType, tmp_path: Path) -> None:
    stricter = json_schema(REGISTRY["ticket.replied"])
    stricter["properties"]["sender"] = {"type": "string"}
    (tmp_path / "ticket.replied.v1.json").write_text(json.dumps(stricter))
    (tmp_path / "ticket.vanished.v1.json").write_text("{}")
    assert generate.broken_contracts(tmp_path) == [
        "ticket.replied.v1.json: data.sender: removed or renamed",
        "ticket.vanished.v1.json: the event type is gone; a published type stays",
    ]


@pytest.mark.parametrize("event", REGISTRY.values(), ids=REGISTRY.keys())
def test_a_schema_accepts_its_example_and_refuses_unknown_fields(event: type[Event]) -> None:
    schema = json_schema(event)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    example = schema["examples"][0]
    assert validator.is_valid(example)
    assert not validator.is_valid(example | {"not_in_the_contract": 1})


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [name for value in part.values() for name in references(value)]
    return [name for value in part for name in references(value)] if isinstance(part, list) else []


def test_asyncapi_names_each_event_once_on_its_topic_and_every_reference_resolves() -> None:
    document = yaml.safe_load((DOCS / "events" / "asyncapi.yaml").read_text())
    listed = {name: topic for topic, channel in document["channels"].items() for name in channel["messages"]}
    assert listed == {name: event.topic for name, event in REGISTRY.items()}
    for reference in references(document):
        if reference.startswith("#/"):
            target: Any = document
            for step in reference[2:].split("/"):
                target = target[step]
        else:
            assert (DOCS / "events" / reference).is_file()


def test_asyncapi_examples_carry_the_headers_the_message_requires() -> None:
    for message in asyncapi()["components"]["messages"].values():
        assert jsonschema.Draft7Validator(message["headers"]).is_valid(message["examples"][0]["headers"])
    assert {operation["channel"]["$ref"] for operation in asyncapi()["operations"].values()} == {
        f"#/channels/{topic}" for topic in topics.WRITERS
    }
