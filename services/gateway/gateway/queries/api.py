"""Routes that a service answers: requests are passed on under the same path, and answers back, problems included."""

from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.door.service import Answer, header, read_body
from gateway.idempotency import service as idempotency
from gateway.idempotency.service import Idempotency, Key
from gateway.keys.service import Holder, Keyring
from gateway.limits.service import Limits
from gateway.queries.routes import ServiceRoute
from gateway.queries.service import PassedOn, Services, passed_back
from gateway.queries.slots import Slots
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import PUBLIC
from touchpoint.http.leaving import UntilClientLeaves

EVENT_STREAM = "text/event-stream"


class Endpoint:
    """What both kinds of routes do with a request before it is passed on."""

    def __init__(self, route: ServiceRoute, keyring: Keyring, limits: Limits, services: Services) -> None:
        self._route = route
        self._keyring = keyring
        self._limits = limits
        self._services = services
        self._slots = _slots_of(route, limits, services)

    async def _admit(self, scope: Connection) -> Holder:
        """Who sends the request; of a public route a holder that stands for the client's address."""
        if self._route.scope is None:
            return self._limits.admit_public(scope)
        caller = await self._keyring.authorize(header(scope, b"authorization"), self._route.scope)
        self._limits.admit_request(scope, caller)
        return caller

    def _passed_on(self, scope: Connection, caller: Holder, body: bytes) -> PassedOn:
        return PassedOn.of(scope, PUBLIC if self._route.public else caller, self._route.method, body)

    def _slot_name(self, caller: Holder) -> str:
        """Who shares a part of the slots: a tenant, or a client's address."""
        return caller.key if self._route.public else caller.tenant


class Proxy(Endpoint):
    """A route whose answers are collected before they are passed back."""

    def __init__(
        self, route: ServiceRoute, keyring: Keyring, limits: Limits, remembered: Idempotency, services: Services
    ) -> None:
        super().__init__(route, keyring, limits, services)
        self._remembered = remembered

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError."""
        caller = await self._admit(scope)
        if self._route.safe:
            answer = await self._ask(scope, caller, b"")
        else:
            body = await read_body(scope, receive, self._route.largest_body)
            key = self._key_of(scope, caller, body)
            answer = await self._remembered.once(key, partial(self._ask, scope, caller, body))
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)

    def _key_of(self, scope: Connection, caller: Holder, body: bytes) -> Key | None:
        if self._route.public:
            refuse_idempotency_key(scope, "it is public")
            return None
        return idempotency.key_of(scope, caller.tenant, body)

    async def _ask(self, scope: Connection, caller: Holder, body: bytes) -> Answer:
        request = self._passed_on(scope, caller, body)
        slot = self._slots.taken(self._slot_name(caller))
        answer = await self._services.ask(self._route.service, request, self._route.seconds, slot)
        return answer._replace(headers=passed_back(answer.headers))


class StreamProxy(Endpoint):
    """A route whose answers are passed back part by part, however long they are.

    The gateway holds a few parts at most: while the client does not read, the service's parts are not read either.
    """

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request; raises ProblemError, or BrokenAnswerError once the answer has begun."""
        caller = await self._admit(scope)
        body = b""
        if not self._route.safe:
            refuse_idempotency_key(scope, "its answer is streamed and cannot be kept")
            body = await read_body(scope, receive, self._route.largest_body)
        request = self._passed_on(scope, caller, body)
        # The body has been read: the next ASGI message is the disconnection.
        passing = UntilClientLeaves(partial(self._pass, request, self._slot_name(caller)), methods=None)
        await passing(scope, receive, send)

    async def _pass(self, request: PassedOn, holder: str, scope: Connection, _: Receive, send: Send) -> None:
        route, slot = self._route, self._slots.taken(holder)
        async with self._services.stream(route.service, request, route.seconds, route.idle_seconds, slot) as answer:
            headers = passed_back(answer.headers, "content-length")
            if headers.get("content-type", "").startswith(EVENT_STREAM):
                headers["x-accel-buffering"] = "no"  # nginx would buffer the events
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": answer.status, "headers": raw})
            if scope["method"] != "HEAD":
                async for part in answer.parts():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def refuse_idempotency_key(scope: Connection, reason: str) -> None:
    """Raise ProblemError 400 when a request has an Idempotency-Key that would have no effect."""
    if header(scope, idempotency.NAME) is not None:
        detail = f"This route does not take an Idempotency-Key, because {reason}: leave the header out."
        raise ProblemError(400, "idempotency-key-not-taken", detail)


def _slots_of(route: ServiceRoute, limits: Limits, services: Services) -> Slots:
    if route.own_slots is None:
        return services.slots(route.service)
    name = f"{route.method} {route.path}"
    return Slots(name, route.own_slots, limits.public_at_once if route.public else None)
