"""The services behind the gateway, asked over HTTP with a short-lived token that says for whom."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
from pydantic import SecretStr

from gateway.config import Settings
from gateway.telemetry import SERVICE_UNREACHABLE
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, sign
from touchpoint.telemetry import log

FEEDBACK, ESCALATION, METRICS = "feedback-svc", "escalation-svc", "metrics-svc"
RETRY_AFTER = {"Retry-After": "5"}
CONNECT_SECONDS = 2


class Services:
    """A pool of connections to the services. Use as an async context manager."""

    def __init__(self, urls: Mapping[str, str], secrets: Sequence[SecretStr], timeout_seconds: float) -> None:
        self.names = tuple(urls)
        self._urls = {name: httpx.URL(url) for name, url in urls.items()}
        self._secrets = secrets
        self._timeout = timeout_seconds
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
            follow_redirects=False,
            trust_env=False,
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
    ) -> httpx.Response:
        """One request; `path` is raw, with its query.

        Raises ProblemError 503 when the service cannot be reached, 504 when it takes too long, 502 when it does not
        know the gateway.
        """
        token = sign(caller, service, self._secrets)
        request = self._client.build_request(
            method,
            self._urls[service],
            content=body,
            headers={**(headers or {}), b"authorization": b"Bearer " + token.encode()},
            extensions={"target": path},  # to the letter: as part of a URL its `..` would lead to another route
        )
        response = await self._send(service, request, timeout_seconds or self._timeout)
        if response.status_code == 401:
            log().error(SERVICE_UNREACHABLE, target=service, error="does not accept INTERNAL_TOKEN_SECRETS")
            raise ProblemError(502, "service-misconfigured", f"{service} does not accept this gateway's token.")
        return response

    async def _send(self, service: str, request: httpx.Request, timeout_seconds: float) -> httpx.Response:
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._client.send(request)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            log().warning(SERVICE_UNREACHABLE, target=service, error="timeout")
            raise ProblemError(504, "service-too-slow", f"{service} did not answer in time.") from None
        except httpx.TransportError as error:
            log().warning(SERVICE_UNREACHABLE, target=service, error=type(error).__name__)
            detail = f"{service} cannot be reached at the moment."
            raise ProblemError(503, "service-unavailable", detail, headers=RETRY_AFTER) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def of(settings: Settings) -> Services:
    """The services as configured."""
    urls = {FEEDBACK: settings.feedback_url, ESCALATION: settings.escalation_url, METRICS: settings.metrics_url}
    return Services(
        {name: str(url) for name, url in urls.items()}, settings.internal_token_secrets, settings.query_seconds
    )
