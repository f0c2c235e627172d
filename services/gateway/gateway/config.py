"""What the environment tells the gateway."""

import re

from pydantic import Field, HttpUrl, field_validator

from touchpoint.base.settings import ServiceSettings

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class Settings(ServiceSettings):
    """The settings every service has, and where the services behind the gateway are."""

    port: int = Field(8080, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9080, description="port of /healthz, /readyz, /metrics and /v1/ops", ge=0, le=65535)
    feedback_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8081"), description="where feedback-svc answers")
    escalation_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8082"), description="where escalation-svc answers")
    metrics_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8083"), description="where metrics-svc answers")
    delivery_seconds: float = Field(1.5, gt=0, le=120, description="wait so long for Kafka before answering 503")
    in_flight_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024, description="of events waiting for Kafka")
    body_bytes: int = Field(64 * 1024 * 1024, ge=16 * 1024 * 1024, description="of large bodies being worked on")
    query_seconds: float = Field(10, gt=0, le=120, description="wait so long for a service before answering 504")
    queries_at_once: int = Field(16, ge=2, le=100, description="at each service; one tenant gets half of them")
    key_grace_seconds: float = Field(
        900, ge=0, le=86400, description="with the database away, a key seen before works on for so long"
    )
    cors_origins: list[str] = Field(
        [],
        description='JSON list of web origins whose pages may call this API, such as ["https://app.example.com"]; '
        '["*"]: all; none by default',
    )
    events_per_second: int = Field(1000, ge=1, description="what an API key may send, unless it has its own limit")
    requests_per_second: int = Field(100, ge=1, description="queries and commands of an API key, likewise")
    public_requests_per_second: int = Field(
        10, ge=1, description="of a client address at routes that need no key; each gateway counts for itself"
    )
    public_at_once: int = Field(4, ge=1, le=100, description="of a client address at a route that needs no key")
    client_address_header: str | None = Field(
        None,
        pattern="^[A-Za-z0-9-]+$",
        description="header in which a proxy in front of the gateway sends the client's address, such as "
        "X-Forwarded-For; the last entry counts. Unset: the address of the connection",
    )
    burst_seconds: int = Field(5, ge=1, le=3600, description="a key may use so many seconds' worth of a rate at once")
    events_per_day: int | None = Field(
        None, ge=1, description="what a tenant may send on a day in UTC, unless it has its own quota; unset: any number"
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise ValueError("an origin is scheme, host and port without a path, such as https://app.example.com")
        return origins
