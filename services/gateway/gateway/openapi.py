"""Merges the OpenAPI document of the public API. Runs when documents are generated, not while the gateway runs.

`openapi_own.yaml` describes the routes that the gateway answers itself; the others come from the services' documents.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from gateway.ingest import schemas
from gateway.ingest.decisions import TYPES
from gateway.openapi_3_0 import Converter, generic_name
from gateway.operations.routes import OPERATIONS, Operation
from gateway.queries.routes import ROUTES, ServiceRoute
from gateway.statuses.schemas import EventNames, EventStatus, EventStatuses
from touchpoint.contracts.base import Event
from touchpoint.contracts.quick import NO_CONTROL
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.http.errors import Problem
from touchpoint.http.leaving import SAFE
from touchpoint.http.scopes import Scope

Json = dict[str, Any]

OWN_SCOPES = {
    "send_event": Scope.EVENTS_WRITE,
    "send_batch": Scope.EVENTS_WRITE,
    "send_feedback": Scope.EVENTS_WRITE,
    "get_event_status": Scope.EVENTS_READ,
    "find_event_statuses": Scope.EVENTS_READ,
}
"""The scopes of the gateway's own operations."""

_REF = "#/components/schemas/"
_ANSWERS = (
    schemas.EventTaken,
    schemas.FeedbackTaken,
    schemas.BatchReport,
    schemas.BatchRefused,
    EventStatus,
    EventStatuses,
)
_PROBLEMS = {
    "Malformed": "The body is not JSON or not the gzip it says, or a header is malformed.",
    "Unauthorized": "No API key, or an unknown, expired or revoked one.",
    "Forbidden": "The API key lacks the scope.",
    "NotFound": "There is no such thing.",
    "Conflict": "The request under this Idempotency-Key is being carried out, or the state of the thing forbids it.",
    "TooSlow": "The body did not arrive in time.",
    "TooLarge": "Above the limit, which the detail names.",
    "Unsupported": "A media type or encoding that is not taken; the detail names what is. Encodings: gzip, identity.",
    "Invalid": "Something breaks the rules; `errors` names each field and reason.",
    "Limited": "Above a rate, a quota or a share, which the detail names; try again after `Retry-After` seconds.",
    "Misconfigured": "The service does not accept this gateway, or its answer is too large.",
    "Unavailable": "Not possible at the moment; try again after `Retry-After` seconds.",
    "Timeout": "The service or its database did not answer in time; narrow the question.",
}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A UUID, say. The same request under the same key is carried out once and answered alike for 24 "
    "hours; meanwhile it is 409, and another request under that key 422.",
    "schema": {
        "type": "string",
        "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254})$',
        "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    },
}
_IN_SOURCES = r'^[^\x00-\x20\x7f"<>\\^`{|}]+$'
_A_SOURCE = "the system it comes from: a URI reference (RFC 3986), also with characters beyond ASCII; not . or .."
_TEXT: Json = {"type": "string"}
_HEADERS: Json = {
    "RateLimit-Policy": {
        "description": "The limits: `q` in `w` seconds, as draft-ietf-httpapi-ratelimit-headers has it.",
        "schema": _TEXT | {"example": '"events";q=5000;w=5'},
    },
    "RateLimit": {
        "description": "What is left of them: `r`, for the next `t` seconds.",
        "schema": _TEXT | {"example": '"events";r=4999;t=5'},
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "schema": {"type": "integer", "format": "int32"},
    },
}
_OF_LIMITS = ("RateLimit-Policy", "RateLimit")
_OF_PROBLEMS = {"Limited": (*_OF_LIMITS, "Retry-After"), "Unavailable": ("Retry-After",)}
_ALWAYS = {"401": "Unauthorized", "403": "Forbidden", "429": "Limited", "503": "Unavailable"}
_FROM_A_SERVICE = {"422": "Invalid", "502": "Misconfigured", "504": "Timeout"}
_WITH_A_BODY = {"400": "Malformed", "408": "TooSlow", "413": "TooLarge", "415": "Unsupported"}


def merge(services: Mapping[str, Json], service_routes: Sequence[ServiceRoute] = ROUTES) -> Json:
    """The document of the public API. `services`: the OpenAPI documents of the services, by name."""
    own: Json = yaml.safe_load(files("gateway").joinpath("openapi_own.yaml").read_text())
    paths, known = own.pop("paths"), _own_schemas()
    for operations in paths.values():
        for operation in operations.values():
            _secure(operation, OWN_SCOPES[operation["operationId"]])
            _add(operation, _ALWAYS)
            _add_limit_headers(operation)
    adopted = {name: _Adopted(known, name, document) for name, document in services.items()}
    for route in service_routes:
        method = route.method.lower()
        theirs = services[route.service]["paths"].get(route.path, {}).get(method)
        if theirs is None:
            raise ValueError(f"{route.service} has no route {route.method} {route.path}, which queries/routes.py names")
        paths.setdefault(route.path, {})[method] = _operation(route, theirs, adopted[route.service])
    # Some generators name a constant after each value, and the value `channel` is the name of a type already.
    if (dimension := known.get("Dimension")) is not None:
        dimension["x-enum-varnames"] = [f"by_{value}" for value in dimension["enum"]]
    return {"openapi": "3.0.3", **own, "paths": paths, "components": _components(known, paths)}


def _components(known: Json, paths: Json) -> Json:
    used = _used(known, paths)
    return {
        "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: `tp_…`."}},
        "headers": _HEADERS,
        "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
        "responses": {name: _problem(name, what) for name, what in _PROBLEMS.items()},
        "schemas": {name: schema for name, schema in sorted(known.items()) if name in used},
    }


def _used(known: Json, paths: Json) -> set[str]:
    """The names of schemas that are referred to. Nullable objects are written inline, and leave theirs unused."""
    text = json.dumps([paths, known]) + f'"{_REF}Problem"'
    return {name for name in known if f'"{_REF}{name}"' in text}


def operations(service: Json) -> Json:
    """The document of the operators' routes. `service`: the document of any service, as all have these routes."""
    known: Json = {}
    adopted = _Adopted(known, "", service)
    own: Json = yaml.safe_load(files("gateway").joinpath("openapi_operations.yaml").read_text())
    paths: Json = {}
    for each in OPERATIONS:
        operation = _operation(each, service["paths"][each.path][each.method.lower()], adopted)
        _add(operation, {"404": "NotFound"})
        paths.setdefault(each.path, {})[each.method.lower()] = operation
    return {"openapi": "3.0.3", **own, "paths": paths, "components": _components(known, paths)}


class _Adopted:
    """Copies parts of a service's document. A schema whose name is taken by a different schema is renamed."""

    def __init__(self, known: Json, service: str, document: Json) -> None:
        self._known = known
        self._prefix = service.removesuffix("-svc").capitalize()
        self._theirs: Json = document["components"]["schemas"]
        self._converter = Converter(self._theirs)
        self._names: dict[str, str] = {}

    def operation(self, original: Json) -> Json:
        """A copy of the operation; copies the schemas it refers to as well."""
        copy: Json = self.part(self._converter.part(original))
        return copy

    def part(self, part: Any) -> Any:
        """A copy of a converted part; copies the schemas it refers to as well."""
        if isinstance(part, list):
            return [self.part(each) for each in part]
        if not isinstance(part, dict):
            return part
        copy = {key: self.part(value) for key, value in part.items()}
        if isinstance(ref := part.get("$ref"), str):
            copy["$ref"] = _REF + self._name(ref.removeprefix(_REF))
        return copy

    def _name(self, name: str) -> str:
        if name not in self._names:
            ours = self._names[name] = generic_name(name)  # a schema may refer to itself
            schema = self.part(self._converter.schema(self._theirs[name]))
            if self._known.setdefault(ours, schema) != schema:
                self._names[name] = self._prefix + ours
                self._known[self._names[name]] = schema
        return self._names[name]


def _operation(route: ServiceRoute | Operation, service: Json, adopted: _Adopted) -> Json:
    """A service's operation as the gateway offers it."""
    answers = {status: _as_sent(status, answer) for status, answer in service["responses"].items() if status != "422"}
    operation: Json = adopted.operation(service | {"responses": answers} | _body(service))
    operation["tags"] = service.get("tags") or [_tag(route.path)]
    operation["operationId"] = service["operationId"].partition("_v1_")[0]
    operation["summary"] = operation["summary"].capitalize()
    problems = _ALWAYS | _FROM_A_SERVICE
    if route.scope is None:
        _open(operation)
        problems = {status: name for status, name in problems.items() if status not in ("401", "403")}
    else:
        _secure(operation, route.scope)
    _add(operation, problems)
    _add_limit_headers(operation)
    if route.method not in SAFE:
        _add_for_commands(operation, remembered=_is_remembered(route))
    if "{" in route.path:
        _add(operation, {"404": "NotFound"})
    return operation


def _tag(path: str) -> str:
    """The tag of a path: its first segment, or the one after `v1`."""
    segments = path.strip("/").split("/")
    return segments[1] if segments[0] == "v1" else segments[0]


def _is_remembered(route: ServiceRoute | Operation) -> bool:
    """Whether the route takes an Idempotency-Key."""
    return isinstance(route, Operation) or not (route.public or route.streamed)


def _add_for_commands(operation: Json, *, remembered: bool) -> None:
    """What a request that changes something can be answered because of its body or its Idempotency-Key."""
    _add(operation, _WITH_A_BODY)
    if remembered:
        _add(operation, {"409": "Conflict"})
        operation["parameters"] = [*operation.get("parameters", ()), {"$ref": "#/components/parameters/IdempotencyKey"}]


def _body(service: Json) -> Json:
    """The body, its schema by its name: an optional body is a choice between that and null in FastAPI's document."""
    if "requestBody" not in service:
        return {}
    body: Json = service["requestBody"]
    contents = {media_type: content.get("schema", {}) for media_type, content in body["content"].items()}
    named = {media_type: {"schema": schema.get("anyOf", [schema])[0]} for media_type, schema in contents.items()}
    is_optional = any("anyOf" in schema for schema in contents.values())
    optional = {"description": "May be left out; null is the same as no body."} if is_optional else {}
    return {"requestBody": body | optional | {"content": named}}


def _as_sent(status: str, answer: Json) -> Json:
    """A service's answer with the media type it really has: FastAPI documents problems as plain JSON."""
    content = answer.get("content", {})
    if status < "400" or "application/json" not in content:
        return answer
    return answer | {"content": {"application/problem+json": content["application/json"]}}


def _open(operation: Json) -> None:
    operation["security"] = []
    operation["description"] = f"{operation['description'].strip()}\n\nNeeds no API key."


def _secure(operation: Json, scope: Scope) -> None:
    operation["security"] = [{"apiKey": []}]  # 3.0 has scopes for OAuth 2 only
    operation["description"] = f"{operation['description'].strip()}\n\nNeeds the scope `{scope}`."


def _add(operation: Json, problems: Mapping[str, str]) -> None:
    """Add problems the operation can answer, unless it describes their status itself."""
    references = {status: {"$ref": f"#/components/responses/{name}"} for status, name in problems.items()}
    operation["responses"] = dict(sorted((references | operation["responses"]).items()))


def _add_limit_headers(operation: Json) -> None:
    for status, answer in operation["responses"].items():
        if status < "300":
            answer["headers"] = answer.get("headers", {}) | _headers(_OF_LIMITS)


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem(name: str, description: str) -> Json:
    headers = {"headers": _headers(_OF_PROBLEMS[name])} if name in _OF_PROBLEMS else {}
    return {
        "description": description,
        **headers,
        "content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}},
    }


def _own_schemas() -> Json:
    events = [(event, "validation") for event in (*TYPES.values(), EventNames)]
    answers = [(answer, "serialization") for answer in (*_ANSWERS, Problem)]
    _, schema = models_json_schema([*events, *answers], ref_template=_REF + "{model}")  # type: ignore[list-item] # pydantic's Literal is lost in the list
    converter = Converter(schema["$defs"])
    known = {name: converter.schema(each) for name, each in schema["$defs"].items()}
    mapping = {}
    for name, event in sorted(TYPES.items()):
        known[f"{event.__name__}Event"] = _cloud_event(name, event)
        mapping[name] = f"{_REF}{event.__name__}Event"
    known["CloudEvent"] = {
        "description": "A CloudEvent 1.0 in JSON. Its `type` says what `data` holds.",
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    known["PlainFeedback"] = _plain_feedback(known[FeedbackSubmitted.__name__])
    return known


def _cloud_event(name: str, event: type[Event]) -> Json:
    """The schema of a type's event, without `allOf`, which some generators do not support between objects."""
    text: Json = {"type": "string", "minLength": 1}
    maybe: Json = {"type": "string", "nullable": True}
    return {
        "description": event.__doc__,
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"type": "string", "enum": ["1.0"]},
            "id": text | {"maxLength": 200, "pattern": NO_CONTROL, "description": "unique within its source"},
            "source": text | {"maxLength": 500, "pattern": _IN_SOURCES, "description": _A_SOURCE},
            "type": {"type": "string", "enum": [name]},
            "time": maybe | {"format": "date-time", "description": "when it happened; left out: now"},
            "subject": maybe | {"minLength": 1, "maxLength": 500, "pattern": NO_CONTROL},
            "datacontenttype": maybe | {"example": "application/json"},
            "dataschema": maybe | {"description": f"{event.dataschema()}, or left out"},
            "backfill": {"type": "boolean", "nullable": True, "description": "imported history: pages nobody"},
            "traceparent": maybe | {"description": "W3C Trace Context"},
            "data": {"$ref": f"{_REF}{event.__name__}"},
        },
        "additionalProperties": True,
        "example": {
            "specversion": "1.0",
            "id": "4711",
            "source": "/crm/eu",
            "type": name,
            "time": "2026-01-15T09:30:00Z",
            "data": event.model_json_schema()["examples"][0],
        },
    }


def _plain_feedback(feedback: Json) -> Json:
    maybe: Json = {"type": "string", "nullable": True}
    given = {
        "id": maybe
        | {"maxLength": 200, "minLength": 1, "pattern": NO_CONTROL, "description": "yours; left out: a random one"},
        "time": maybe | {"format": "date-time", "description": "when it was said; left out: now"},
    }
    described = {"description": "Feedback, and if you like its own id and time."}
    return feedback | described | {"properties": given | feedback["properties"]}
