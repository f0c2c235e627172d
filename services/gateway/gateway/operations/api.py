"""The operators' routes, at the admin address: passed on to the service concerned, or to all and combined.

Operators' keys see all tenants. The tenant of a key counts only for its limits and Idempotency-Keys.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from urllib.parse import parse_qs

import msgspec
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.door.service import Answer, header, read_body
from gateway.idempotency import service as idempotency
from gateway.idempotency.service import Idempotency
from gateway.keys.service import Keyring
from gateway.limits.service import Limits
from gateway.operations.decisions import first_to_know, together, tried
from gateway.operations.routes import Operation
from gateway.queries.service import PassedOn, Services, passed_back
from touchpoint.http.errors import FieldError, ProblemError
from touchpoint.http.identity import Caller
from touchpoint.operators.schemas import PageQuery


class _Named(msgspec.Struct):
    consumer: str | None = None


class OperationEndpoint:
    """The endpoint of an operation."""

    def __init__(
        self, operation: Operation, keyring: Keyring, limits: Limits, remembered: Idempotency, services: Services
    ) -> None:
        self._operation = operation
        self._keyring = keyring
        self._limits = limits
        self._remembered = remembered
        self._services = services

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass the request on to the services concerned, and their answer back, problems included."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), self._operation.scope)
        self._limits.admit_request(scope, caller)
        body, key = b"", None
        if self._operation.method == "POST":
            body = await read_body(scope, receive)
            key = idempotency.key_of(scope, caller.tenant, body)
        answer = await self._remembered.once(key, partial(self._answer, scope, caller, body))
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)

    async def _answer(self, scope: Connection, caller: Caller, body: bytes) -> Answer:
        ask = partial(self._ask, scope, caller, body)
        services = self._concerned(scope, body)
        if not self._operation.is_list:
            return await first_to_know(services, ask)
        answers = await asyncio.gather(*(tried(ask, service) for service in services))
        return together(services, answers, _limit(scope))

    def _concerned(self, scope: Connection, body: bytes) -> Sequence[str]:
        """The service whose consumer is named in the path, the query or the body; else all services.

        A body that names no consumer goes to the first service, which refuses it.
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
        request = PassedOn.of(scope, caller, self._operation.method, body)
        answer = await self._services.ask(service, request, self._operation.seconds)
        return answer._replace(headers=passed_back(answer.headers))


def _last(scope: Connection, name: str) -> str | None:
    """The last value of a query parameter, as services read it."""
    values = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return values[-1] if values else None


def _limit(scope: Connection) -> int:
    """How many items a page has, read as services do. They refuse an invalid number, so here it is the default."""
    try:
        return PageQuery.model_validate({"limit": _last(scope, "limit") or PageQuery().limit}).limit
    except ValidationError:
        return PageQuery().limit


def _named_in(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Named).consumer
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
