"""The operators' routes, at the admin address: each service answers for its consumer, lists of all are put together.

Their keys stand above tenants: a tenant counts here only for the key's limits and its Idempotency-Keys.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

import msgspec
from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from gateway import documents, idempotency
from gateway.auth import Keyring
from gateway.idempotency import Idempotency
from gateway.limits import Limits
from gateway.queries import ANSWER_HEADERS, MAX_BODY_BYTES, REQUEST_HEADERS, too_large
from gateway.requests import Answer, header, read_body
from gateway.services import Services
from touchpoint.http import errors, pagination
from touchpoint.http.errors import FieldError, Problem, ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope
from touchpoint.http.straight import Straight
from touchpoint.kafka.lookup import TIMEOUT_SECONDS
from touchpoint.operators.replays.api import PLAN_SECONDS
from touchpoint.operators.schemas import Entries, PageQuery, Unanswered

LONGEST_SECONDS = PLAN_SECONDS + 10.0
"""So long a plan may take; no answer takes longer."""
LOOK_SECONDS = TIMEOUT_SECONDS + 5.0
"""So long a look into the log may take."""

Json = dict[str, Any]


class Operation(NamedTuple):
    """A route and what becomes of several services' answers: a list is put together, else the first to know it counts.

    `path` is as in the services' own OpenAPI documents.
    """

    method: Literal["GET", "POST"]
    path: str
    is_list: bool = False
    seconds: float | None = None
    """A service may take so long, if not as long as for any query."""

    @property
    def scope(self) -> Scope:
        """What a key needs for it."""
        return Scope.OPS_READ if self.method == "GET" else Scope.OPS_REPLAY


OPERATIONS = (
    Operation("GET", "/v1/ops/consumers", is_list=True),
    Operation("POST", "/v1/ops/consumers/{consumer}/pause"),
    Operation("POST", "/v1/ops/consumers/{consumer}/resume"),
    Operation("GET", "/v1/ops/dead-letters", is_list=True),
    Operation("GET", "/v1/ops/dead-letters/stats", is_list=True),
    Operation("POST", "/v1/ops/dead-letters/redrive"),
    Operation("POST", "/v1/ops/dead-letters/discard"),
    Operation("GET", "/v1/ops/dead-letters/{consumer}/{topic}/{partition}/{offset}", seconds=LOOK_SECONDS),
    Operation("GET", "/v1/ops/replays", is_list=True),
    Operation("POST", "/v1/ops/replays", seconds=LONGEST_SECONDS),
    Operation("POST", "/v1/ops/rebuilds", seconds=LOOK_SECONDS),
    Operation("GET", "/v1/ops/replays/{replay_id}"),
    Operation("POST", "/v1/ops/replays/{replay_id}/run"),
    Operation("POST", "/v1/ops/replays/{replay_id}/pause"),
    Operation("POST", "/v1/ops/replays/{replay_id}/resume"),
    Operation("POST", "/v1/ops/replays/{replay_id}/swap"),
    Operation("POST", "/v1/ops/replays/{replay_id}/abort"),
    Operation("GET", "/v1/ops/audit", is_list=True),
)


class _Named(msgspec.Struct):
    consumer: str | None = None


class OperationDoor:
    """Answers one of the operations."""

    def __init__(
        self, operation: Operation, keyring: Keyring, limits: Limits, remembered: Idempotency, services: Services
    ) -> None:
        self._operation = operation
        self._keyring = keyring
        self._limits = limits
        self._remembered = remembered
        self._services = services

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Ask whom it concerns, and answer what they say, problems included."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), self._operation.scope)
        self._limits.admit_request(scope, caller)
        body, key = b"", None
        if self._operation.method == "POST":
            body = await read_body(scope, receive, MAX_BODY_BYTES, too_large)
            key = idempotency.key_of(scope, caller.tenant, body)
        answer = await self._remembered.once(key, partial(self._answer, scope, caller, body))
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)

    async def _answer(self, scope: Connection, caller: Caller, body: bytes) -> Answer:
        ask = partial(self._ask, scope, caller, body)
        services = self._concerned(scope, body)
        if not self._operation.is_list:
            return await first_to_know(services, ask)
        answers = await asyncio.gather(*(_tried(ask, service) for service in services))
        return together(services, answers, _limit(scope))

    def _concerned(self, scope: Connection, body: bytes) -> Sequence[str]:
        """The service whose consumer is named, in the path, the query or the body; else all.

        A body that cannot be read any service refuses as it would refuse another.
        """
        name = scope["path_params"].get("consumer")
        if name is None and self._operation.method == "GET":
            name = _last(scope, "consumer")
        elif name is None and "{" not in self._operation.path:
            name = _named_in(body) or self._services.names[0]
        if name is None:
            return self._services.names
        if name not in self._services.names:
            known = ", ".join(self._services.names)
            wrong = [FieldError(field="consumer", reason=f"there are {known}")]
            raise ProblemError(404, "not-found", "There is no consumer of this name.", errors=wrong)
        return (name,)

    async def _ask(self, scope: Connection, caller: Caller, body: bytes, service: str) -> Answer:
        answer = await self._services.ask(
            service,
            caller,
            scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b""),
            method=self._operation.method,
            body=body,
            headers={name: value for name, value in scope["headers"] if name in REQUEST_HEADERS},
            timeout_seconds=self._operation.seconds,
        )
        passed = {name: answer.headers[name] for name in (*ANSWER_HEADERS, "location") if name in answer.headers}
        return answer._replace(headers=passed)


def application(route: Callable[[str, str, ASGIApp], Route], door: Callable[[Operation], ASGIApp]) -> Straight:
    """What is served at the admin address: the operations, and their document."""
    app = Straight(title="Touchpoint operations", docs_url=None, redoc_url=None)
    errors.install(app)
    app.router.routes += [
        *(route(operation.method, operation.path, door(operation)) for operation in OPERATIONS),
        documents.operations(),
    ]
    return app


Ask = Callable[[str], Awaitable[Answer]]


async def _tried(ask: Ask, service: str) -> Answer | ProblemError:
    try:
        return await ask(service)
    except ProblemError as error:
        return error


async def first_to_know(services: Sequence[str], ask: Ask) -> Answer:
    """The answer of the service that knows what was asked for, whatever the others say, or however long they take.

    Raises ProblemError 404 only when all of them say so.
    """
    asking = [asyncio.create_task(_tried(ask, service)) for service in services]
    unknown: Answer | None = None
    failed: Answer | ProblemError | None = None
    try:
        for next_one in asyncio.as_completed(asking):
            answer = await next_one
            if isinstance(answer, ProblemError) or answer.status >= 500:
                failed = answer
            elif answer.status == 404:
                unknown = answer
            else:
                return answer
    finally:
        for task in asking:
            task.cancel()
    found = failed or unknown
    assert found is not None, "nobody was asked"
    if isinstance(found, ProblemError):
        raise found
    return found


def together(services: Sequence[str], answers: Sequence[Answer | ProblemError], limit: int) -> Answer:
    """One list of all, newest first where it has pages. Who gave no answer is named in it; if all, ProblemError.

    A refusal of the question is the same from all.
    """
    parts, missing = list[Entries[Json]](), list[Unanswered]()
    for service, answer in zip(services, answers, strict=True):
        if isinstance(answer, Answer) and 400 <= answer.status < 500:
            return answer
        try:
            if isinstance(answer, ProblemError):
                missing.append(Unanswered(service=service, problem=answer.problem))
            elif answer.status >= 500:
                missing.append(Unanswered(service=service, problem=Problem.model_validate_json(answer.body)))
            else:
                parts.append(Entries[Json].model_validate_json(answer.body))
        except ValidationError:  # of another version than this gateway
            missing.append(Unanswered(service=service, problem=_unreadable(service).problem))
    if not parts:
        worst = missing[0].problem
        raise ProblemError(worst.status, worst.type.rpartition(":")[2], worst.detail or worst.title)
    merged = _merged(parts, limit)
    merged.unanswered = missing
    return Answer(200, {"content-type": "application/json"}, merged.model_dump_json().encode())


def _merged(parts: Sequence[Entries[Json]], limit: int) -> Entries[Json]:
    items = [item for part in parts for item in part.items]
    if not all("cursor" in item for item in items):
        return Entries(items=items)
    items.sort(key=lambda item: pagination.read(item["cursor"]), reverse=True)
    more = len(items) > limit or any(part.next_cursor for part in parts)
    shown = items[:limit]
    return Entries(items=shown, next_cursor=shown[-1]["cursor"] if more and shown else None)


def _unreadable(service: str) -> ProblemError:
    return ProblemError(502, "service-misconfigured", f"{service} answers what this gateway cannot read.")


def _last(scope: Connection, name: str) -> str | None:
    """The parameter of the query that counts for the services, too."""
    values = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return values[-1] if values else None


def _limit(scope: Connection) -> int:
    """How many items a page has, read as the services do; they refuse what is no such number."""
    try:
        return PageQuery.model_validate({"limit": _last(scope, "limit") or PageQuery().limit}).limit
    except ValidationError:
        return PageQuery().limit


def _named_in(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Named).consumer
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
