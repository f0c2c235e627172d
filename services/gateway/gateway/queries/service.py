"""The services behind the gateway, asked over HTTP with a short-lived token that says for whom."""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr
from yarl import URL

from gateway.config import Settings
from gateway.door.service import Answer
from gateway.queries.slots import Slots
from gateway.queries.telemetry import SERVICE_UNREACHABLE
from touchpoint.base import tracing
from touchpoint.base.telemetry import log
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, sign

FEEDBACK, ESCALATION, METRICS = "feedback-svc", "escalation-svc", "metrics-svc"
MAX_BODY_BYTES = 256 * 1024
REQUEST_HEADERS = (b"accept", b"content-type", b"traceparent")
ANSWER_HEADERS = ("content-type", "retry-after")
RETRY_AFTER = {"Retry-After": "5"}
CONNECT_SECONDS = 2
TOKEN_REFUSED = "refuses the gateway's token: INTERNAL_TOKEN_SECRETS differ, or the two machines' clocks do"  # noqa: S105 # no token
KEEP_SECONDS = 3
"""An idle connection is kept for less than the five seconds after which a service closes it."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Several times what a service means to answer at most."""
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class _Request(NamedTuple):
    method: str
    url: URL
    headers: dict[str, str]
    body: bytes
    timeout: aiohttp.ClientTimeout


class Services:
    """Connections to the services, kept for the next question."""

    def __init__(self, urls: Mapping[str, str], secret: SecretStr, timeout_seconds: float, at_once: int) -> None:
        self.names = tuple(urls)
        self._slots = {name: Slots(name, at_once) for name in urls}
        self._urls = {name: url.rstrip("/") for name, url in urls.items()}
        self._secret = secret
        self._timeout = timeout_seconds

    async def ask(
        self,
        service: str,
        caller: Caller,
        path: bytes,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[bytes, bytes] | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """One request; `path` is raw, with its query. A header that is not ASCII is left out.

        Raises ProblemError 429 or 503 when too many questions are there already, 503 when the service cannot be
        reached, 504 when it takes too long, 502 when it does not know the gateway or says too much.
        """
        request = _Request(
            method,
            # The target to the letter: normalised, its `..` would lead to another route.
            URL(self._urls[service] + quote(path, safe=_PRINTABLE), encoded=True),
            {
                "Authorization": f"Bearer {sign(caller, service, self._secret)}",
                **{name.decode(): value.decode() for name, value in (headers or {}).items() if value.isascii()},
                **({tracing.TRACEPARENT: here} if (here := tracing.current()) else {}),
            },
            body,
            aiohttp.ClientTimeout(total=timeout_seconds or self._timeout, sock_connect=CONNECT_SECONDS),
        )
        async with self._slots[service].taken(caller.tenant):
            answer = await self._send(service, request)
        if answer.status == 401:
            log().error(SERVICE_UNREACHABLE, target=service, error=TOKEN_REFUSED)
            raise ProblemError(502, "service-misconfigured", f"{service} does not accept this gateway's token.")
        return answer

    async def _send(self, service: str, request: _Request) -> Answer:
        try:
            async with self._session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body or None,
                timeout=request.timeout,
                allow_redirects=False,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, await _content(service, response))
        except (aiohttp.ClientError, TimeoutError) as error:
            log().warning(SERVICE_UNREACHABLE, target=service, error=type(error).__name__)
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
                raise ProblemError(504, "service-too-slow", f"{service} did not answer in time.") from None
            detail = f"{service} cannot be reached at the moment."
            raise ProblemError(503, "service-unavailable", detail, headers=RETRY_AFTER) from None

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Made within the event loop it belongs to. There are no more connections than slots."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


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


def too_large() -> ProblemError:
    """Of a command's body."""
    return ProblemError(413, "body-too-large", f"The body may have {MAX_BODY_BYTES} bytes (256 KiB).")
