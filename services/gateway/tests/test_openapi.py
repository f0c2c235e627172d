"""The committed OpenAPI documents compared with the gateway: its routes, scopes, problems and real answers."""

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Annotated

import pytest
from fastapi import FastAPI, Header
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from gateway import openapi
from gateway.app import create_app
from gateway.config import Settings
from gateway.ingest.decisions import TYPES
from gateway.openapi import OWN_SCOPES
from gateway.openapi_3_0 import Converter
from gateway.operations import routes
from gateway.queries.routes import ROUTES, ServiceRoute
from touchpoint.db.engine import create_engine
from touchpoint.http.errors import Problem
from touchpoint.http.scopes import Scope
from touchpoint.kafka.producer import NotAcknowledgedError, Producer

BATCH = "application/cloudevents-batch+json"
DOCUMENT, OPERATIONS_DOCUMENT = DOCUMENTS = [
    json.loads(files("gateway").joinpath(name).read_text()) for name in ("openapi.json", "openapi_operations.json")
]


def operations(document):
    return {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


OPERATIONS = operations(DOCUMENT)
ALL = [(document, place) for document in DOCUMENTS for place in operations(document)]
SCOPES = (
    {(route.method, route.path): route.scope for route in ROUTES}
    | {operation[:2]: operation.scope for operation in routes.OPERATIONS}
    | {
        place: OWN_SCOPES[operation["operationId"]]
        for place, operation in OPERATIONS.items()
        if operation["operationId"] in OWN_SCOPES
    }
)
SCHEMAS = DOCUMENT["components"]["schemas"]
EXAMPLES = [SCHEMAS[reference.rpartition("/")[2]]["example"] for _, reference in sorted(
    SCHEMAS["CloudEvent"]["discriminator"]["mapping"].items()
)]  # fmt: skip


def validator(schema):
    return Draft202012Validator(as_json_schema(schema | {"components": DOCUMENT["components"]}))


def as_json_schema(part):
    """Convert a schema of OpenAPI 3.0 to JSON Schema: `nullable` and the exclusive bounds."""
    if isinstance(part, list):
        return [as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: as_json_schema(value) for key, value in part.items()}
    for bound in ("Minimum", "Maximum"):
        if made.get(f"exclusive{bound}") is True:
            made[f"exclusive{bound}"] = made.pop(bound.lower())
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) is True else made


def everything(part, place=""):
    """Yield every object of the document with its path, except `properties`: its keys are names, not keywords."""
    if isinstance(part, dict):
        if not place.endswith("/properties"):
            yield place, part
        for key, value in part.items():
            if key not in ("example", "enum"):
                yield from everything(value, f"{place}/{key}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from everything(value, f"{place}/{number}")


def resolved(part, document=DOCUMENT):
    if "$ref" not in part:
        return part
    target = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return target


def documented(answer, method, path):
    """Assert that the document describes this answer: its status, media type, body and headers."""
    responses = OPERATIONS[method, path]["responses"]
    assert str(answer.status_code) in responses, f"{answer.status_code} of {method} {path} is not documented"
    content = resolved(responses[str(answer.status_code)])["content"]
    assert answer.headers["content-type"] in content
    validator(content[answer.headers["content-type"]]["schema"]).validate(answer.json())
    assert set(resolved(responses[str(answer.status_code)]).get("headers", ())) <= {
        name for name in ("RateLimit", "RateLimit-Policy", "Retry-After") if name in answer.headers
    }
    return answer


def references(part):
    if isinstance(part, dict):
        own = [part] if isinstance(part.get("$ref"), str) else []
        return own + [reference for value in part.values() for reference in references(value)]
    return [reference for value in part for reference in references(value)] if isinstance(part, list) else []


def test_the_documents_describe_exactly_the_gateways_routes():
    settings = Settings(database_url="postgresql:///unused", internal_token_secrets=["unused" * 6])
    app = create_app(settings, create_engine("postgresql:///unused", "tests"))
    for served, document in ((app, DOCUMENT), (app.state.beside, OPERATIONS_DOCUMENT)):
        routes = {
            (method, route.path.replace(":path}", "}"))
            for route in served.routes
            if route.path.startswith("/v1") and not route.path.endswith("openapi.json")
            for method in route.methods - {"HEAD"}
        }
        assert routes == operations(document).keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=("public", "operators"))
def test_every_reference_resolves_and_every_schema_is_valid(document):
    assert len(references(document)) > 50
    for part in references(document):
        assert resolved(part, document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(as_json_schema(schema))


@pytest.mark.parametrize(("document", "place"), ALL, ids=[" ".join(place) for _, place in ALL])
def test_every_operation_has_a_summary_its_scope_and_its_problems(document, place):
    operation = operations(document)[place]
    assert operation["security"] == [{"apiKey": []}]
    assert operation["description"].endswith(f"Needs the scope `{SCOPES[place]}`.")
    assert operation["summary"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert "$ref" in content["schema"] or content["schema"]["type"] == "array", "generators need its name"
    assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}
    assert {"401", "403", "503"} <= operation["responses"].keys()
    for status, answer in operation["responses"].items():
        assert list(resolved(answer, document)["content"]) == [
            "application/json" if status.startswith("2") else "application/problem+json"
        ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=("public", "operators"))
def test_operation_ids_are_unique(document):
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


GENERATORS_FAIL = {
    "a list of types": lambda part: isinstance(part.get("type"), list),
    "the type null": lambda part: part.get("type") == "null",
    "a default of null or []": lambda part: "default" in part and part["default"] in (None, []),
    "const or propertyNames, which 3.0 does not know": lambda part: part.keys() & {"const", "propertyNames"},
    "a reference to an object that may be null": lambda part: (
        part.get("nullable") is True and part.get("type") == "object" and "allOf" in part
    ),
    "nullable without a type": lambda part: part.get("nullable") is True and "type" not in part,
    "something beside $ref": lambda part: isinstance(part.get("$ref"), str) and len(part) > 1,
    "an integer of unknown size": lambda part: (
        part.get("type") == "integer" and "format" not in part and part.get("maximum", 2**31) >= 2**31
    ),
    "alternatives without names": lambda part: any(
        "enum" in choice or choice.get("type") == "object" for choice in part.get("anyOf", ())
    ),
}
"""Constructs at which a client generator fails, or of which it makes code that does not compile (docs/adr/0020)."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=("public", "operators"))
@pytest.mark.parametrize("fault", GENERATORS_FAIL)
def test_no_document_has_a_construct_at_which_generators_fail(document, fault):
    assert [place for place, part in everything(document) if GENERATORS_FAIL[fault](part)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=("public", "operators"))
def test_each_document_has_its_version_server_and_contact(document):
    assert (document["openapi"], document["servers"][0]["url"]) == ("3.0.3", "/")
    assert document["info"]["contact"].keys() == {"name", "url"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=("public", "operators"))
def test_names_of_schemas_stay_unique_as_names_of_types_in_generated_code(document):
    titles = [part["title"] for place, part in everything(document) if place != "/info" and "title" in part]
    assert titles == []
    names = {re.sub(r"\W|_", "", name).lower() for name in document["components"]["schemas"]}
    assert len(names) == len(document["components"]["schemas"])
    assert not any("_" in name for name in document["components"]["schemas"])


def test_no_enum_constant_in_generated_code_has_the_name_of_a_type():
    """oapi-codegen names constants after values; it prefixes them with the type only where two types share a value."""
    enums = {name: schema["enum"] for name, schema in SCHEMAS.items() if "enum" in schema}
    times = Counter(value for values in enums.values() for value in values)
    for name, values in enums.items():
        if all(times[value] == 1 for value in values):
            constants = {str(value).lower() for value in SCHEMAS[name].get("x-enum-varnames", values)}
            assert not constants & {other.lower() for other in SCHEMAS}, name


def test_each_event_type_has_its_own_schema_in_a_union_discriminated_by_type():
    union = SCHEMAS["CloudEvent"]
    assert union["discriminator"]["propertyName"] == "type"
    mapping = union["discriminator"]["mapping"]
    assert mapping.keys() == TYPES.keys()
    assert [choice["$ref"] for choice in union["oneOf"]] == list(mapping.values())
    for name, reference in mapping.items():
        event = resolved({"$ref": reference})
        assert event["properties"]["type"]["enum"] == [name]
        assert event["properties"]["data"] == {"$ref": f"#/components/schemas/{TYPES[name].__name__}"}
        assert event["required"] == ["specversion", "id", "source", "type", "data"]


def test_schemas_of_openapi_3_1_are_converted_to_3_0():
    converter = Converter({"Score": {"type": "object"}, "Channel": {"type": "string"}})
    for theirs, ours in (
        ({"type": ["string", "null"], "title": "Text", "default": None}, {"type": "string", "nullable": True}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string", "nullable": True}),
        (
            {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]},
            {"anyOf": [{"type": "number", "nullable": True}, {"type": "string"}]},
        ),
        (
            {"anyOf": [{"$ref": "#/components/schemas/Score"}, {"type": "null"}]},
            {"nullable": True, "type": "object"},
        ),
        (
            {"anyOf": [{"$ref": "#/components/schemas/Channel"}, {"type": "null"}]},
            {"nullable": True, "type": "string", "allOf": [{"$ref": "#/components/schemas/Channel"}]},
        ),
        ({"type": "number", "exclusiveMaximum": 10}, {"type": "number", "maximum": 10, "exclusiveMaximum": True}),
        (
            {"type": "string", "const": "nps", "examples": ["nps"]},
            {"type": "string", "enum": ["nps"], "example": "nps"},
        ),
        (
            {"type": "object", "properties": {"title": {"const": 1}}},
            {"type": "object", "properties": {"title": {"enum": [1]}}},
        ),
        (
            {"type": "array", "items": {"type": "integer"}},
            {"type": "array", "items": {"type": "integer", "format": "int64"}},
        ),
        ({"type": "integer", "maximum": 200}, {"type": "integer", "maximum": 200}),
    ):
        assert converter.schema(theirs) == ours


def test_a_different_schema_of_the_same_name_is_renamed_after_its_service():
    known = {"Score": {"type": "object"}, "Same": {"type": "string"}}
    theirs = {"Score": {"type": "number"}, "Same": {"type": "string"}, "Page": {"$ref": "#/components/schemas/Score"}}
    adopted = openapi._Adopted(known, "metrics-svc", {"components": {"schemas": theirs}})

    part = adopted.part([{"$ref": f"#/components/schemas/{name}"} for name in ("Page", "Same")])

    assert [reference["$ref"].rpartition("/")[2] for reference in part] == ["Page", "Same"]
    assert known["Page"] == {"$ref": "#/components/schemas/MetricsScore"}
    assert (known["MetricsScore"], known["Score"]) == ({"type": "number"}, {"type": "object"})


async def test_the_gateway_serves_the_document(door):
    served = await door.get("/openapi.json", headers={"Authorization": ""})
    assert (served.status_code, served.json()) == (200, DOCUMENT)


async def test_the_page_of_the_document_loads_and_may_run_only_its_own_files(door):
    page = await door.get("/docs", headers={"Authorization": ""})
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "http" not in policy
    assert "<script>" not in page.text
    asked = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(asked) == 3
    for path in asked:
        part = await door.get(path, headers={"Authorization": ""})
        assert (part.status_code, len(part.text) > 50) == (200, True), path
    assert '"/openapi.json"' in part.text
    for path in ("/docs/", "/docs/nothing", "/docs/../openapi.json", "/docs/%2e%2e/keys.py", "/docs/..%2fapp.py"):
        assert (await door.get(path)).status_code == (200 if path == "/docs/../openapi.json" else 404), path


async def test_every_example_is_valid_and_accepted(door):
    check = validator({"$ref": "#/components/schemas/CloudEvent"})
    for event in EXAMPLES:
        check.validate(event)
    batch = await door.post("/v1/batches", content=json.dumps(EXAMPLES), headers={"Content-Type": BATCH})
    assert (batch.status_code, len(batch.json()["accepted"])) == (202, len(EXAMPLES))


@pytest.mark.parametrize(
    "over",
    [
        {"specversion": "0.3"}, {"id": ""}, {"id": 1.5}, {"id": "x" * 201}, {"type": "feedback.recorded"},
        {"backfill": "maybe"}, {"data": {}}, {"data": None},
    ],
    ids=str,
)  # fmt: skip
async def test_an_event_that_the_documents_schema_refuses_is_422(door, over):
    event = EXAMPLES[1] | over
    assert not validator({"$ref": "#/components/schemas/CloudEvent"}).is_valid(event)
    answer = await door.post(
        "/v1/events", content=json.dumps(event), headers={"Content-Type": "application/cloudevents+json"}
    )
    assert answer.status_code == 422


async def send(door, payload, media_type="application/cloudevents+json", **headers):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    path = "/v1/batches" if media_type == BATCH else "/v1/events"
    answer = await door.post(path, content=body, headers={"Content-Type": media_type, **headers})
    return documented(answer, "POST", path).status_code


async def test_the_answers_to_events_are_as_documented(door, open_door, monkeypatch):
    good, bad = EXAMPLES[0], EXAMPLES[0] | {"id": ""}
    assert await send(door, good) == 202
    assert await send(door, [good, good], BATCH) == 202
    assert await send(door, [good, bad], BATCH) == 207
    assert await send(door, b"{") == 400
    assert await send(door, b"{", BATCH) == 400
    assert await send(door, good, Authorization="Bearer nonsense") == 401
    assert await send(door, [good], BATCH, Authorization="Bearer nonsense") == 401
    assert await send(door, [0] * 5001, BATCH) == 413
    assert await send(door, good, "text/plain") == 415
    assert await send(door, bad) == 422
    assert await send(door, [bad, 7], BATCH) == 422
    slow = await open_door(events_per_second=1, burst_seconds=1)
    assert [await send(slow, good), await send(slow, good)] == [202, 429]

    async def nothing(self, records, _):
        return [NotAcknowledgedError("not sent")] * len(records)

    monkeypatch.setattr(Producer, "send_all", nothing)
    assert await send(door, good) == 503
    assert await send(door, [good, bad], BATCH) == 503


async def test_the_answers_to_plain_feedback_are_as_documented(door):
    async def post(**kwargs):
        return documented(await door.post("/v1/feedback", **kwargs), "POST", "/v1/feedback").status_code

    feedback = {"kind": "text", "channel": "web", "text": "Fine."}
    assert await post(json=feedback) == 202
    for other, status in ((feedback, 202), (feedback, 202), (feedback | {"text": "Bad."}, 422)):
        assert await post(json=other, headers={"Idempotency-Key": "k"}) == status
    assert await post(json=feedback, headers={"Idempotency-Key": '"'}) == 400
    assert await post(content=b"{") == 400
    assert await post(content=b" " * 262_145) == 413
    assert await post(data={"kind": "text"}) == 415
    assert await post(json=feedback | {"colour": "red"}) == 422


async def test_the_answers_about_the_status_of_an_event_are_as_documented(open_door, behind):
    path = "/v1/events/{source}/{id}"
    door = await open_door(**{f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")})
    behind.answer = lambda _: JSONResponse({"consumer": "x-svc", "handles": [], "positions": {}, "events": {}})
    assert documented(await door.get("/v1/events/%2Fcrm/1"), "GET", path).status_code == 404
    sent = await door.post("/v1/feedback", json={"kind": "text", "channel": "web", "text": "Fine."})
    assert documented(await door.get(sent.json()["status_url"]), "GET", path).status_code == 200

    async def post(body):
        return documented(await door.post(statuses, content=body), "POST", statuses).status_code

    statuses = "/v1/events/statuses"
    assert await post(b'{"events": [{"source": "/crm", "id": "1"}]}') == 200
    assert await post(b'{"events": []}') == 422
    assert await post(b"{") == 400
    assert await post(b" " * 262_145) == 413


@pytest.mark.parametrize("place", [(route.method, route.path) for route in ROUTES], ids=" ".join)
async def test_the_problems_of_routes_to_services_are_as_documented(open_door, behind, place):
    method, path = place
    raw = path.replace("{", "").replace("}", "")
    away = {f"{name}_url": "http://127.0.0.1:1" for name in ("feedback", "escalation", "metrics")}
    door = await open_door(**away)
    assert documented(await door.request(method, raw), method, path).status_code == 503
    unauthorized = await door.request(method, raw, headers={"Authorization": ""})
    assert documented(unauthorized, method, path).status_code == 401
    forbidden = await (await open_door(scopes=set(Scope) - {SCOPES[place]}, **away)).request(method, raw)
    assert documented(forbidden, method, path).status_code == 403
    slow = await open_door(requests_per_second=1, burst_seconds=1, **away)
    await slow.request(method, raw)
    assert documented(await slow.request(method, raw), method, path).status_code == 429
    door = await open_door(**dict.fromkeys(away, behind.url))
    behind.answer = lambda _: JSONResponse({}, 401)
    assert documented(await door.request(method, raw), method, path).status_code == 502


@pytest.fixture(scope="module")
def described():
    """The operations of a document with each kind of route that a service can have."""
    service = FastAPI()

    class Thing(BaseModel):
        name: str

    @service.put("/v1/things/{thing_id}", responses={412: {"model": Problem}})
    async def put_thing(thing_id: str, thing: Thing, if_match: Annotated[str, Header()]) -> Thing:
        """Store a thing."""

    @service.delete("/v1/things/{thing_id}", status_code=204)
    async def delete_thing(thing_id: str) -> None:
        """Delete a thing."""

    csv = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}

    @service.get("/v1/exports/things", response_class=Response, responses=csv)
    async def export_things() -> Response:
        """All things."""

    @service.post("/v1/pages/{tenant}/answers", status_code=202)
    async def answer_page(tenant: str, thing: Thing) -> Thing:
        """Answer a page."""

    table = (
        ServiceRoute("PUT", "/v1/things/{thing_id}", "a", Scope.FEEDBACK_READ),
        ServiceRoute("DELETE", "/v1/things/{thing_id}", "a", Scope.FEEDBACK_READ),
        ServiceRoute("GET", "/v1/exports/things", "a", Scope.FEEDBACK_READ, streamed=True),
        ServiceRoute("POST", "/v1/pages/{tenant}/answers", "a", public=True),
    )
    return operations(openapi.merge({"a": service.openapi()}, table))


def test_put_and_delete_are_described_with_if_match_problems_and_idempotency_key(described):
    put, delete = described["PUT", "/v1/things/{thing_id}"], described["DELETE", "/v1/things/{thing_id}"]
    assert put["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert {"if-match"} <= {parameter.get("name") for parameter in put["parameters"]}
    assert list(put["responses"]["412"]["content"]) == ["application/problem+json"]
    for operation in (put, delete):
        assert {"$ref": "#/components/parameters/IdempotencyKey"} in operation["parameters"]
        assert {"400", "401", "403", "404", "409", "413"} <= set(operation["responses"])
        assert operation["tags"] == ["things"]
    assert "content" not in delete["responses"]["204"]


def test_a_streamed_answer_is_described_by_its_media_type(described):
    export = described["GET", "/v1/exports/things"]
    assert export["responses"]["200"]["content"]["text/csv"] == {"schema": {"type": "string"}}
    assert "504" in export["responses"]


def test_a_public_route_is_described_without_a_key(described):
    page = described["POST", "/v1/pages/{tenant}/answers"]
    assert page["security"] == []
    assert "Needs no API key." in page["description"]
    assert not {"401", "403", "409"} & set(page["responses"])
    assert {"$ref": "#/components/parameters/IdempotencyKey"} not in page["parameters"]
    assert "429" in page["responses"]
