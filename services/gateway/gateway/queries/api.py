"""Questions and commands to services, passed on as they came, under the same path."""

from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.door.service import Answer, header, read_body
from gateway.idempotency import service as idempotency
from gateway.idempotency.service import Idempotency
from gateway.keys.service import Keyring
from gateway.limits.service import Limits
from gateway.queries.routes import Query
from gateway.queries.service import ANSWER_HEADERS, MAX_BODY_BYTES, REQUEST_HEADERS, Services, too_large
from touchpoint.http.identity import Caller


class Proxy:
    """Answers one of the queries."""

    def __init__(
        self, query: Query, keyring: Keyring, limits: Limits, remembered: Idempotency, services: Services
    ) -> None:
        self._query = query
        self._keyring = keyring
        self._limits = limits
        self._remembered = remembered
        self._services = services

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass the question or command on, and the answer back, problems included."""
        caller = await self._keyring.authorize(header(scope, b"authorization"), self._query.scope)
        self._limits.admit_request(scope, caller)
        if self._query.method != "POST":
            answer = await self._ask(scope, caller)
        else:
            body = await read_body(scope, receive, MAX_BODY_BYTES, too_large)
            key = idempotency.key_of(scope, caller.tenant, body)
            answer = await self._remembered.once(key, partial(self._ask, scope, caller, body))
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)

    async def _ask(self, scope: Connection, caller: Caller, body: bytes = b"") -> Answer:
        headers = {name: value for name, value in scope["headers"] if name in REQUEST_HEADERS}
        answer = await self._services.ask(
            self._query.service,
            caller,
            scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b""),
            method=self._query.method,
            body=body,
            headers=headers,
        )
        passed = {name: answer.headers[name] for name in ANSWER_HEADERS if name in answer.headers}
        return answer._replace(headers=passed)
