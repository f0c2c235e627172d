"""Which questions go to which service, and how: passed on as they came, under the same path."""

from functools import partial
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway import idempotency
from gateway.auth import Keyring
from gateway.idempotency import Idempotency
from gateway.limits import Limits
from gateway.requests import Answer, header, read_body
from gateway.services import ESCALATION, FEEDBACK, METRICS, Services
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope

MAX_BODY_BYTES = 256 * 1024
REQUEST_HEADERS = (b"accept", b"content-type", b"traceparent")
ANSWER_HEADERS = ("content-type", "retry-after")


class Query(NamedTuple):
    """A route of the door and the service behind it. `path` is as in the service's own OpenAPI document."""

    method: str
    path: str
    service: str
    scope: Scope

    @property
    def route(self) -> str:
        """The path as a route: a customer's id may have slashes in it."""
        return self.path.replace("{customer_id}", "{customer_id:path}")

    @property
    def single(self) -> bool:
        """Whether one thing is asked for by its id."""
        return self.path.endswith("_id}")


QUERIES = (
    Query("GET", "/v1/feedback", FEEDBACK, Scope.FEEDBACK_READ),
    Query("GET", "/v1/feedback/{feedback_id}", FEEDBACK, Scope.FEEDBACK_READ),
    Query("GET", "/v1/customers/{customer_id}/timeline", FEEDBACK, Scope.CUSTOMERS_READ),
    Query("GET", "/v1/escalations", ESCALATION, Scope.ESCALATIONS_READ),
    Query("GET", "/v1/escalations/{escalation_id}", ESCALATION, Scope.ESCALATIONS_READ),
    Query("POST", "/v1/escalations/{escalation_id}/acknowledge", ESCALATION, Scope.ESCALATIONS_WRITE),
    Query("POST", "/v1/escalations/{escalation_id}/resolve", ESCALATION, Scope.ESCALATIONS_WRITE),
    Query("GET", "/v1/metrics/{metric}", METRICS, Scope.METRICS_READ),
)


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


def too_large() -> ProblemError:
    """Of a command's body."""
    return ProblemError(413, "body-too-large", f"The body may have {MAX_BODY_BYTES} bytes (256 KiB).")
