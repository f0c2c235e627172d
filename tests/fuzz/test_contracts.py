"""The gateway accepts exactly what the published schemas allow, except for the rules in beyond.py."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.ingest import cloudevents, decisions
from gateway.ingest.cloudevents import Parsed
from gateway.ingest.feedback import _event as plain_feedback
from touchpoint.contracts import record as codec
from touchpoint.contracts import sources
from touchpoint.contracts.base import REGISTRY, Event
from touchpoint.contracts.reasons import reason
from touchpoint.contracts.schema import json_schema
from touchpoint.http.errors import ProblemError

from . import beyond, bodies, mutate, published

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLOUD_EVENT, PLAIN_FEEDBACK = (
    published.validator({"allOf": [{"$ref": f"#/components/schemas/{name}"}]})
    for name in ("CloudEvent", "PlainFeedback")
)
FEEDBACK = REGISTRY["feedback.submitted"].model_json_schema()["examples"][0] | {
    "id": "4711",
    "time": "2026-11-22T09:30:00Z",
}
CLOUD_EVENTS = [
    published.SCHEMAS[reference.rpartition("/")[2]]["example"]
    for reference in published.SCHEMAS["CloudEvent"]["discriminator"]["mapping"].values()
]
SEEDS = st.integers(0, 2**32)


def refusal(raw: bytes, parse: Callable[[bytes], Parsed] = cloudevents.structured) -> dict[str, Any] | None:
    """The problem with which the gateway refuses an event in JSON; None if it accepts the event."""
    try:
        decisions.accept(parse(raw), "acme", NOW)
    except ProblemError as error:
        return error.problem.model_dump()
    return None


def plain(body: bytes) -> Parsed:
    """Parse plain feedback, sent without an Idempotency-Key, as an event."""
    return plain_feedback(body, None)


def read(raw: bytes) -> Any:
    """Parse JSON by RFC 8259; of members with equal names the last one counts. Raises ValueError or RecursionError."""
    document = json.loads(raw.decode(errors="surrogateescape"), parse_constant=_no_number, parse_int=_number)
    json.dumps(document, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    return document


def _no_number(word: str) -> None:
    raise ValueError(word)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 1000 else float(digits)  # Python limits the digits of integers, JSON does not


@given(SEEDS)
def test_a_mutated_event_is_accepted_exactly_when_the_document_allows_it(seed):
    rng = Random(seed)
    event = bodies._event(rng, "4711")
    for _ in range(rng.randint(1, 3)):
        mutate.structure(rng, event)
    raw = mutate.encoded(event, rng)
    agree(raw, refusal(raw), CLOUD_EVENT)


@given(SEEDS)
def test_mutated_plain_feedback_is_accepted_exactly_when_the_document_allows_it(seed):
    rng = Random(seed)
    feedback = mutate.tree(FEEDBACK)
    for _ in range(rng.randint(1, 3)):
        mutate.structure(rng, feedback)
    raw = mutate.encoded(feedback, rng)
    agree(raw, refusal(raw, plain), PLAIN_FEEDBACK)


def agree(raw: bytes, problem: dict[str, Any] | None, schema: jsonschema_rs.Draft4Validator) -> None:
    """Assert that the gateway and the document agree on a body."""
    try:
        value = read(raw)
    except (ValueError, RecursionError):
        assert problem
        return
    if schema.is_valid(value):
        assert problem is None or beyond.schemas(problem), f"refused against the schema: {problem} {raw!r}"
    else:
        assert problem, f"accepted against the schema: {raw!r}"


Edges = Iterator[tuple[Any, bool]]
"""Values at the bounds of a schema and just beyond, each with whether it is allowed."""


def edges(schema: dict[str, Any], definitions: dict[str, Any]) -> Edges:
    """All edges of a field's schema."""
    for part in schema.get("anyOf", [schema]):
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]  # noqa: PLW2901 # the schema it refers to
        yield from _words(part)
        yield from _text(part)
        yield from _number_edges(part)
        if "maxItems" in part:
            yield ["x"] * part["maxItems"], True
            yield ["x"] * (part["maxItems"] + 1), False


def _words(schema: dict[str, Any]) -> Edges:
    if "enum" in schema:
        yield from ((word, True) for word in schema["enum"])
        yield "not_yet_invented", False


def _text(schema: dict[str, Any]) -> Edges:
    """Edges of texts that may consist of x only."""
    if "maxLength" in schema and schema.get("pattern", "^[^").startswith("^[^"):
        least, most = schema.get("minLength", 0), schema["maxLength"]
        yield from (("x" * least, True), ("x" * most, True), ("x" * (most + 1), False), ("a\x00b", False))
        yield from ((text, False) for text in ["x" * (least - 1)] if least)


def _number_edges(schema: dict[str, Any]) -> Edges:
    if "minimum" in schema:
        yield from ((schema["minimum"], True), (schema["minimum"] - 1, False))
    if "maximum" in schema:
        yield from ((schema["maximum"], True), (schema["maximum"] + 1, False))
    if "exclusiveMaximum" in schema:
        most = str(schema["exclusiveMaximum"] - 1)
        yield from ((schema["exclusiveMaximum"], False), (most, True), (f"{most}0", False))


FIELDS = [
    pytest.param(REGISTRY[kind], name, value, fits, id=f"{kind}-{name}-{str(value)[:9]}-{number}")
    for kind in bodies.TYPES
    for schema in [json_schema(REGISTRY[kind])]
    for name, part in schema["properties"].items()
    for number, (value, fits) in enumerate(edges(part, schema.get("$defs", {})))
]


@pytest.mark.parametrize(("event", "name", "value", "fits"), FIELDS)
def test_a_field_is_accepted_up_to_its_bound_and_refused_beyond(event: type[Event], name: str, value: Any, fits: bool):
    data = json_schema(event)["examples"][0] | {name: value}
    try:
        event.model_validate_json(json.dumps(data))
        problem = None
    except ValidationError as error:
        named = [{"reason": reason(details)} for details in error.errors() if details["loc"][0] == name]
        problem = {"errors": named} if named else None

    assert jsonschema_rs.Draft7Validator(json_schema(event)).is_valid(data) == fits
    assert (problem is None or beyond.schemas(problem)) == fits


ENVELOPE = [
    ("id", "x" * 200, True), ("id", "x" * 201, False), ("id", "😀" * 200, True), ("id", "", False),
    ("source", "/" * 500, True), ("source", "/" * 501, False), ("source", "", False),
    ("subject", "x" * 500, True), ("subject", "x" * 501, False), ("subject", "", False), ("subject", None, True),
    ("extra", "x" * 1000, True), ("extra", "x" * 1001, False), ("extra", "", True), ("extra", None, True),
    ("x" * 50, "", True), ("x" * 51, "", False), ("x" * 51, None, False), ("Source", None, False),
    ("data_base64", None, True), ("data_base64", "", False), ("tenant", None, True),
    ("tenant", "acme", False), ("backfill", None, True), ("backfill", 1, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "fits"), ENVELOPE, ids=lambda part: str(part)[:12])
def test_an_attribute_is_accepted_up_to_its_bound_and_refused_beyond(name, value, fits):
    raw = json.dumps(CLOUD_EVENTS[0] | {name: value}).encode()
    problem = refusal(raw)
    assert (problem is None) == fits
    agree(raw, problem, CLOUD_EVENT)


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("id", "x" * 200, True), ("id", "x" * 201, False), ("id", "", False), ("id", None, True), ("id", 1, False),
        ("time", None, True), ("time", 1, False), ("source", "/crm", False), ("type", "feedback.submitted", False),
    ],
    ids=lambda part: str(part)[:12],
)  # fmt: skip
def test_an_attribute_of_plain_feedback_is_accepted_up_to_its_bound_and_refused_beyond(name, value, fits):
    feedback = FEEDBACK | {name: value}
    assert (refusal(json.dumps(feedback).encode(), plain) is None) == fits
    assert PLAIN_FEEDBACK.is_valid(feedback) == fits


@pytest.mark.parametrize(
    ("time", "fits"),
    [
        ("2026-11-22T12:05:00Z", True), ("2026-11-22T12:05:00.000001Z", False), ("1900-01-01T00:00:00Z", True),
        ("1899-12-31T23:59:59.999999Z", False), ("1899-12-31T23:59:59-00:01", True),
        ("1900-01-01T00:00:00+00:01", False),
    ],
)  # fmt: skip
def test_a_time_is_accepted_up_to_its_bound_and_refused_beyond(time, fits):
    assert (refusal(json.dumps(CLOUD_EVENTS[0] | {"time": time}).encode()) is None) == fits


def _not_dots(segment: str) -> bool:
    return segment not in (".", "..")  # HTTP clients resolve these in an event's URL


VISIBLE = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"], exclude_characters=["\u034f"])


@given(
    st.text(VISIBLE, min_size=1).filter(_not_dots),
    st.text(VISIBLE, min_size=1, max_size=500).filter(_not_dots).filter(lambda source: sources.wrong(source) is None),
    st.none() | st.text(VISIBLE, min_size=1, max_size=500),
    st.datetimes(datetime(1900, 1, 1), datetime(2026, 11, 22), timezones=st.just(UTC)),  # noqa: DTZ001 # zone beside
    st.booleans(),
)
def test_attributes_pass_through_http_and_kafka_headers_unchanged(name, source, subject, time, backfill):
    given = {"ce-id": name[:200], "ce-source": source, "ce-time": time.isoformat(), "ce-type": "ticket.opened"}
    given |= {"ce-specversion": "1.0", "ce-backfill": str(backfill), "ce-extra": name[:1000]}
    given |= {"ce-subject": subject} if subject else {}
    sent = [(key.encode(), quote(value, safe="").encode()) for key, value in given.items()]

    parsed = cloudevents.binary("application/json", sent, json.dumps(CLOUD_EVENTS[5]["data"]).encode())
    _, record = decisions.accept(
        Parsed(parsed.attributes | {"type": CLOUD_EVENTS[5]["type"]}, parsed.data), "acme", NOW
    )
    event = codec.decode(record, REGISTRY)

    assert event is not None
    assert (event.meta.id, event.meta.source, event.meta.subject) == (name[:200], source, subject)
    assert (event.meta.time, event.meta.backfill, event.meta.recorded) == (time, backfill, NOW)
    assert dict(record.headers)["ce_extra"].decode() == name[:1000]
