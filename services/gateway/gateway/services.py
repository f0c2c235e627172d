"""The services behind the gateway, asked over HTTP with a short-lived token that says for whom."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpcore
from pydantic import SecretStr

from gateway.config import Settings
from gateway.requests import Answer
from gateway.slots import Slots
from gateway.telemetry import SERVICE_UNREACHABLE
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, sign
from touchpoint.telemetry import log

FEEDBACK, ESCALATION, METRICS = "feedback-svc", "escalation-svc", "metrics-svc"
RETRY_AFTER = {"Retry-After": "5"}
CONNECT_SECONDS = 2
KEEP_SECONDS = 3
"""An idle connection is kept for less than the five seconds after which a service closes it."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Several times what a service means to answer at most."""


class Services:
    """A pool of connections to the services.

    It is httpcore's, the one under httpx, whose other layers took twice the time of the question itself.
    """

    def __init__(self, urls: Mapping[str, str], secret: SecretStr, timeout_seconds: float, at_once: int) -> None:
        self.names = tuple(urls)
        self._slots = {name: Slots(name, at_once) for name in urls}
        self._urls = {name: httpcore.URL(url) for name, url in urls.items()}
        self._hosts = {name: urlsplit(url).netloc.encode() for name, url in urls.items()}
        self._secret = secret
        self._timeout = timeout_seconds
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=200, max_keepalive_connections=50, keepalive_expiry=KEEP_SECONDS
        )

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
        """One request; `path` is raw, with its query.

        Raises ProblemError 429 or 503 when too many questions are there already, 503 when the service cannot be
        reached, 504 when it takes too long, 502 when it does not know the gateway or says too much.
        """
        token = sign(caller, service, self._secret)
        own = {
            b"host": self._hosts[service],
            b"authorization": b"Bearer " + token.encode(),
            b"content-length": b"%d" % len(body),
        }
        request = httpcore.Request(
            method,
            self._urls[service],
            content=body,
            headers=[*own.items(), *(headers or {}).items()],
            # The target to the letter: as part of a URL its `..` would lead to another route.
            extensions={"target": path, "timeout": {"connect": CONNECT_SECONDS}},
        )
        async with self._slots[service].taken(caller.tenant):
            answer = await self._send(service, request, timeout_seconds or self._timeout)
        if answer.status == 401:
            log().error(SERVICE_UNREACHABLE, target=service, error="does not accept INTERNAL_TOKEN_SECRETS")
            raise ProblemError(502, "service-misconfigured", f"{service} does not accept this gateway's token.")
        return answer

    async def _send(self, service: str, request: httpcore.Request, timeout_seconds: float) -> Answer:
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._pool.handle_async_request(request)
                try:
                    content = await _content(service, response)
                finally:
                    await response.aclose()
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, headers, content)
        except TimeoutError:
            log().warning(SERVICE_UNREACHABLE, target=service, error="timeout")
            raise ProblemError(504, "service-too-slow", f"{service} did not answer in time.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectTimeout) as error:
            log().warning(SERVICE_UNREACHABLE, target=service, error=type(error).__name__)
            detail = f"{service} cannot be reached at the moment."
            raise ProblemError(503, "service-unavailable", detail, headers=RETRY_AFTER) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


async def _content(service: str, response: httpcore.Response) -> bytes:
    parts, size = list[bytes](), 0
    async for part in response.aiter_stream():
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
