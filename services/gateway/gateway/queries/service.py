"""The HTTP client for the services behind the gateway. A short-lived token names the caller of each request."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr
from starlette.types import Scope
from yarl import URL

from gateway.config import Settings
from gateway.door.service import Answer, BrokenAnswerError
from gateway.queries.slots import Slots
from gateway.queries.telemetry import ANSWER_BROKEN, SERVICE_UNREACHABLE
from touchpoint.base import tracing
from touchpoint.base.telemetry import log
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, sign

FEEDBACK, ESCALATION, METRICS = "feedback-svc", "escalation-svc", "metrics-svc"
REQUEST_HEADERS = frozenset(
    (
        b"accept",
        b"content-type",
        b"if-match",
        b"if-none-match",
        b"last-event-id",
        b"prefer",
        b"traceparent",
    )
)
"""Headers of a request that are passed on to the service."""
ANSWER_HEADERS = (
    "allow",
    "content-disposition",
    "content-type",
    "etag",
    "last-modified",
    "location",
    "preference-applied",
    "retry-after",
)
"""Headers of a service's answer that are passed on to the client unchanged."""
RETRY_AFTER = {"Retry-After": "5"}
CONNECT_SECONDS = 2
TOKEN_REFUSED = "refuses the gateway's token: INTERNAL_TOKEN_SECRETS differ, or the two machines' clocks do"  # noqa: S105 # no token
KEEP_SECONDS = 3
"""How long an idle connection is kept: less than the five seconds after which a service closes it."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Limit of an answer that is collected: several times what services send at most."""
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class PassedOn(NamedTuple):
    """A request as it is passed on: `path` is raw, with its query. A header that is not ASCII is left out."""

    caller: Caller
    path: bytes
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[bytes, bytes] = {}

    @classmethod
    def of(cls, scope: Scope, caller: Caller, method: str, body: bytes) -> "PassedOn":
        """The client's request, with the headers that services get."""
        path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = {name: value for name, value in scope["headers"] if name in REQUEST_HEADERS}
        return cls(caller, path, method, body, headers)


def passed_back(headers: Mapping[str, str], *others: str) -> dict[str, str]:
    """The headers of a service's answer that the client gets; `others`: further names."""
    return {name: headers[name] for name in (*ANSWER_HEADERS, *others) if name in headers}


class Streamed:
    """An answer whose headers have arrived; `parts` reads its body."""

    def __init__(self, service: str, response: aiohttp.ClientResponse, idle_seconds: float) -> None:
        self.status = response.status
        self.headers = _headers(response)
        self._service = service
        self._response = response
        self._idle_seconds = idle_seconds

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises BrokenAnswerError if it is cut off or the service stops sending."""
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    part = await self._response.content.readany()
            except (aiohttp.ClientError, TimeoutError) as error:
                log().warning(ANSWER_BROKEN, target=self._service, error=type(error).__name__)
                raise BrokenAnswerError(self._service) from None
            if not part:
                return
            yield part


class Services:
    """Connections to the services, kept for the next request."""

    def __init__(self, urls: Mapping[str, str], secret: SecretStr, timeout_seconds: float, at_once: int) -> None:
        self.names = tuple(urls)
        self._slots = {name: Slots(name, at_once) for name in urls}
        self._urls = {name: url.rstrip("/") for name, url in urls.items()}
        self._secret = secret
        self._seconds = timeout_seconds

    def slots(self, service: str) -> Slots:
        """The slots that a service's routes share, unless they have their own."""
        return self._slots[service]

    async def ask(
        self,
        service: str,
        request: PassedOn,
        seconds: float | None = None,
        slot: AbstractAsyncContextManager[None] | None = None,
    ) -> Answer:
        """Send a request and collect its answer; `slot`: held meanwhile, by default a slot of the service.

        Raises ProblemError 429 or 503 when too many requests to the service are in work, 503 when it cannot be reached,
        504 when it takes too long, 502 when it refuses the gateway's token or its answer is too large.
        """
        times = aiohttp.ClientTimeout(total=seconds or self._seconds, sock_connect=CONNECT_SECONDS)
        async with slot or self._slots[service].taken(request.caller.tenant):
            try:
                async with await self._send(service, request, times) as response:
                    answer = Answer(response.status, _headers(response), await _content(service, response))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _failed(service, error) from None
        _check_token(service, answer.status)
        return answer

    @asynccontextmanager
    async def stream(
        self,
        service: str,
        request: PassedOn,
        seconds: float | None,
        idle_seconds: float,
        slot: AbstractAsyncContextManager[None],
    ) -> AsyncIterator[Streamed]:
        """Send a request; yields its answer once the headers have arrived, and closes it in the end, complete or not.

        `seconds`: timeout until the headers arrive. Raises ProblemError as `ask` does.
        """
        times = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with slot:
            try:
                async with asyncio.timeout(seconds or self._seconds):
                    response = await self._send(service, request, times)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _failed(service, error) from None
            try:
                _check_token(service, response.status)
                yield Streamed(service, response, idle_seconds)
            finally:
                response.close()

    async def _send(self, service: str, request: PassedOn, times: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        return await self._session.request(
            request.method,
            # encoded=True: the path is sent as received. If it were normalised, a `..` would lead to another route.
            URL(self._urls[service] + quote(request.path, safe=_PRINTABLE), encoded=True),
            headers={
                "Authorization": f"Bearer {sign(request.caller, service, self._secret)}",
                **{name.decode(): value.decode() for name, value in request.headers.items() if value.isascii()},
                **({tracing.TRACEPARENT: here} if (here := tracing.current()) else {}),
            },
            data=request.body or None,
            timeout=times,
            allow_redirects=False,
        )

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Created when first used, within its event loop. No limit: there are no more connections than slots."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Names in lower case; values byte by byte, as they are sent on."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}


def _failed(service: str, error: Exception) -> ProblemError:
    """The problem of a service that gave no answer."""
    log().warning(SERVICE_UNREACHABLE, target=service, error=type(error).__name__)
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return ProblemError(504, "service-too-slow", f"{service} did not answer in time.")
    detail = f"{service} cannot be reached at the moment."
    return ProblemError(503, "service-unavailable", detail, headers=RETRY_AFTER)


def _check_token(service: str, status: int) -> None:
    """Raise ProblemError 502 when the service refuses the gateway's token: the client's request is not the cause."""
    if status == 401:
        log().error(SERVICE_UNREACHABLE, target=service, error=TOKEN_REFUSED)
        raise ProblemError(502, "service-misconfigured", f"{service} does not accept this gateway's token.")


async def _content(service: str, response: aiohttp.ClientResponse) -> bytes:
    parts, size = list[bytes](), 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            log().error(SERVICE_UNREACHABLE, target=service, error="answers more than the gateway passes on")
            detail = f"The answer of {service} has more than 16 MiB: ask for fewer items by limit, or a shorter range."
            raise ProblemError(502, "answer-too-large", detail)
        parts.append(part)
    return b"".join(parts)


def of(settings: Settings) -> Services:
    """The services as configured."""
    urls = {FEEDBACK: settings.feedback_url, ESCALATION: settings.escalation_url, METRICS: settings.metrics_url}
    return Services(
        {name: str(url) for name, url in urls.items()},
        settings.internal_token_secrets[0],
        settings.query_seconds,
        settings.queries_at_once,
    )
