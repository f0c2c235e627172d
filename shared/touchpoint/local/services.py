"""The four services as a local stack runs them: their ports, databases and environment variables."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from touchpoint.base import database_url
from touchpoint.base.settings import KafkaSettings
from touchpoint.local.kafka import in_sync
from touchpoint.local.process import HOST, Program

KAFKA_OFFSET, CONTROLLER_OFFSET, BROKER_STEP, ADMIN_OFFSET = 1012, 1013, 10, 1000
"""All ports follow the gateway's: 8080 makes Kafka's 9092 (9102 and 9112) and the gateway's admin port 9080."""


@dataclass(frozen=True)
class LocalService:
    """A service: its name, its package, its database, and its port as a distance from the gateway's."""

    name: str
    package: str
    database: str
    offset: int

    def url(self, base_port: int) -> str:
        """The URL of its API."""
        return f"http://{HOST}:{base_port + self.offset}"

    def admin_url(self, base_port: int) -> str:
        """The URL of its health and metrics; the gateway's has the operators' routes, too."""
        return f"http://{HOST}:{base_port + self.offset + ADMIN_OFFSET}"


GATEWAY = LocalService("gateway", "gateway", "gateway", 0)
FEEDBACK = LocalService("feedback-svc", "feedback_svc", "feedback", 1)
ESCALATION = LocalService("escalation-svc", "escalation_svc", "escalation", 2)
METRICS = LocalService("metrics-svc", "metrics_svc", "metrics", 3)
SERVICES: Sequence[LocalService] = (FEEDBACK, ESCALATION, METRICS, GATEWAY)


@dataclass(frozen=True)
class Environment:
    """Settings that all services of a stack share: Kafka, PostgreSQL, the gateway's port, and the tokens' secret."""

    kafka: KafkaSettings
    brokers: int
    """Number of embedded brokers, which is also the topics' replication factor; 0 if an external Kafka is used."""
    database_url: str
    port: int
    token_secret: str

    def of(self, service: LocalService) -> dict[str, str]:
        """The environment of one service: the caller's own (TLS, SASL, log level), overridden by these variables."""
        return {
            **os.environ,
            **self._kafka(),
            "DATABASE_URL": database_url.named(self.database_url, service.database),
            "HOST": HOST,
            "PORT": str(self.port + service.offset),
            "ADMIN_HOST": HOST,
            "ADMIN_PORT": str(self.port + service.offset + ADMIN_OFFSET),
            "INTERNAL_TOKEN_SECRETS": json.dumps([self.token_secret]),
            "FEEDBACK_URL": FEEDBACK.url(self.port),
            "ESCALATION_URL": ESCALATION.url(self.port),
            "METRICS_URL": METRICS.url(self.port),
        }

    def _kafka(self) -> dict[str, str]:
        kafka = {"KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
        if not self.brokers:
            return kafka
        assert self.kafka.sasl_username, "the embedded Kafka lets nobody in without a user"
        assert self.kafka.sasl_password, "and without its password"
        return kafka | {
            "KAFKA_SECURITY_PROTOCOL": self.kafka.security_protocol,
            "KAFKA_SASL_MECHANISM": self.kafka.sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.kafka.sasl_username,
            "KAFKA_SASL_PASSWORD": self.kafka.sasl_password.get_secret_value(),
            "KAFKA_REPLICATION_FACTOR": str(self.brokers),
            "KAFKA_MIN_INSYNC_REPLICAS": str(in_sync(self.brokers)),
        }

    def program(self, service: LocalService, role: str, logs: Path) -> Program:
        """The program that runs one role of a service."""
        command = [sys.executable, "-P", "-m", service.package, role]
        return Program(service.name, command, self.of(service), logs / f"{service.name}.log")


def broker_ports(base_port: int, brokers: int) -> list[tuple[int, int]]:
    """For each embedded broker the port for clients and the port for controllers."""
    steps = range(base_port, base_port + brokers * BROKER_STEP, BROKER_STEP)
    return [(step + KAFKA_OFFSET, step + CONTROLLER_OFFSET) for step in steps]


def ports(base_port: int, brokers: int) -> Mapping[int, str]:
    """Every port of a stack with this number of embedded brokers, and its purpose."""
    purposes = {base_port + service.offset: service.name for service in SERVICES}
    purposes |= {port + ADMIN_OFFSET: f"{name}'s health and metrics" for port, name in purposes.items()}
    for port, controller_port in broker_ports(base_port, brokers):
        purposes |= {port: "Kafka", controller_port: "Kafka's controller"}
    return purposes
