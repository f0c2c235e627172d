"""Settings shared by services and the command line. Only `__main__` modules and the command line instantiate them."""

import ssl
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError


class KafkaSettings(BaseSettings):
    """How to reach Apache Kafka (environment: `KAFKA_…`)."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: str = Field("localhost:9092", description="host:port, comma-separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: over TLS; SASL: with user and password"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism that authenticates user and password"
    )
    sasl_username: str | None = Field(None, description="this service's Kafka user")
    sasl_password: SecretStr | None = Field(None, description="password of that user")
    ssl_cafile: str | None = Field(None, description="CA certificates, PEM; the system's own when unset")
    ssl_certfile: str | None = Field(None, description="client certificate, PEM")
    ssl_keyfile: str | None = Field(None, description="key of the client certificate, PEM")
    topic_prefix: str = Field("", description="prefix of every topic and consumer group")
    partitions: int = Field(
        12,
        ge=1,
        le=1000,
        description="partitions per topic, set when the topic is created; adding some later breaks a customer's order",
    )
    replication_factor: int = Field(
        1, ge=1, le=7, description="replicas per topic, set when the topic is created; 3 if there are several brokers"
    )
    min_insync_replicas: int = Field(
        1,
        ge=1,
        le=7,
        description="replicas that must have a record before Kafka acknowledges it, set when the topic is created; "
        "2 with 3 replicas",
    )

    def client_options(self) -> dict[str, Any]:
        """The connection arguments of every aiokafka client. Raises UsageError if a certificate cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password.get_secret_value() if self.sasl_password else None
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except OSError as error:
            raise UsageError(f"KAFKA_SSL_CAFILE, _CERTFILE or _KEYFILE cannot be used: {error}") from None
        return context


class ServiceSettings(BaseSettings):
    """Settings of every service, read from its environment."""

    database_url: SecretStr = Field(
        description="postgresql://user:password@host/database?sslmode=…, with the parameters of libpq"
    )
    database_pool_size: int = Field(
        5,
        ge=1,
        le=100,
        description="database connections of an API, and as many of a consumer or worker in the same process",
    )
    statement_seconds: float = Field(
        5, gt=0, le=120, description="timeout of an API's SQL statement, in seconds; then 504"
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    host: str = Field("127.0.0.1", description="address of the API")
    port: int = Field(description="port of the API", ge=0, le=65535)
    connections: int = Field(
        800, ge=10, le=100_000, description="client connections at once; each takes a file descriptor (docs/limits.md)"
    )
    admin_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    admin_port: int = Field(description="port of /healthz, /readyz and /metrics", ge=0, le=65535)
    internal_token_secrets: list[SecretStr] = Field(
        min_length=1,
        description='JSON list, ["current", "previous"]: secrets that sign the gateway\'s requests to the services; '
        "32 characters or more each",
    )
    otel_traces_exporter: Literal["none", "otlp"] = Field(
        "none", description="otlp: send traces to OTEL_EXPORTER_OTLP_ENDPOINT (docs/observability.md)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["json", "console"] = Field(
        "json", description="json: one JSON object per line; console: lines for people"
    )

    @field_validator("database_url")
    @classmethod
    def _readable(cls, url: SecretStr) -> SecretStr:
        if not database_url.is_url(url.get_secret_value()):
            raise ValueError(f"must be {database_url.FORM}")
        return url

    @field_validator("internal_token_secrets")
    @classmethod
    def _long_enough(cls, secrets: list[SecretStr]) -> list[SecretStr]:
        if any(len(secret.get_secret_value()) < 32 for secret in secrets):
            raise ValueError("a secret needs at least 32 characters")
        return secrets


class ConsumingSettings(ServiceSettings):
    """Settings of every service that consumes events."""

    on_poison: Literal["skip", "halt"] = Field(
        "skip",
        description="an event that cannot be handled: skip makes it a dead letter, halt stops the consumer before it",
    )
    business_tenants: list[str] = Field(
        [],
        max_length=20,
        description="JSON list of tenants whose scores and open cases are exported as metrics; none by default",
    )
