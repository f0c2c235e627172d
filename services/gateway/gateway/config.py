"""The settings of the gateway, from its environment."""

import re

from pydantic import Field, HttpUrl, field_validator

from touchpoint.base.settings import ServiceSettings

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class Settings(ServiceSettings):
    """The settings of every service, and those of the gateway."""

    port: int = Field(8080, description="port of the API", ge=0, le=65535)
    admin_port: int = Field(9080, description="port of /healthz, /readyz, /metrics and /v1/ops", ge=0, le=65535)
    feedback_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8081"), description="where feedback-svc answers")
    escalation_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8082"), description="where escalation-svc answers")
    metrics_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8083"), description="where metrics-svc answers")
    delivery_seconds: float = Field(1.5, gt=0, le=120, description="seconds for Kafka to acknowledge; then 503")
    in_flight_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="bytes of events that may wait for Kafka"
    )
    body_bytes: int = Field(64 * 1024 * 1024, ge=16 * 1024 * 1024, description="bytes of large bodies in work")
    query_seconds: float = Field(10, gt=0, le=120, description="seconds for a service to answer; then 504")
    queries_at_once: int = Field(16, ge=2, le=100, description="at once to each service; a tenant gets half")
    key_grace_seconds: float = Field(
        900, ge=0, le=86400, description="seconds that a cached key works on while the database is away"
    )
    cors_origins: list[str] = Field(
        [],
        description='JSON list of web origins whose pages may call this API, such as ["https://app.example.com"]; '
        '["*"]: all; none by default',
    )
    events_per_second: int = Field(1000, ge=1, description="events a second of an API key, unless it has its own limit")
    requests_per_second: int = Field(
        100, ge=1, description="queries and commands a second of an API key, unless it has its own limit"
    )
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
    burst_seconds: int = Field(5, ge=1, le=3600, description="burst: seconds' worth of a rate")
    events_per_day: int | None = Field(
        None, ge=1, description="events a day (UTC) of a tenant, unless it has its own quota; unset: any number"
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        wrong = [each for each in origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            raise ValueError("an origin is scheme, host and port without a path, such as https://app.example.com")
        return origins
