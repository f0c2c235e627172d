"""Run all of Touchpoint as processes, on the servers of the test run."""

import asyncio
import json
import os
import secrets
import signal
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from touchpoint.base import database_url
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import databases, migrate
from touchpoint.http.scopes import Scope
from touchpoint.kafka import admin
from touchpoint.local.process import HOST, Process, Program
from touchpoint.process.service import roles
from touchpoint.testing import eventually, ports
from touchpoint.testing.servers import Servers


def roles_of(service: str) -> tuple[str, ...]:
    """The roles of a service's processes, without `migrate` and `all`."""
    if service == "gateway":
        return ("api",)
    tasks = f"{service.replace('-', '_')}.tasks"
    return tuple(roles(import_module(tasks).TASKS if find_spec(tasks) else {}))


SERVICES = {service: roles_of(service) for service in ("gateway", "feedback-svc", "escalation-svc", "metrics-svc")}
"""Every role in a process of its own, so that a test can kill a single role."""
TOGETHER = {service: ("all",) if len(roles) > 1 else roles for service, roles in SERVICES.items()}
"""All roles of a service in one process, as under `touchpoint up`: starts in less than half the time."""
READS = {
    "escalation-svc": ["touchpoints.v1", "escalations.v1"],
    "metrics-svc": ["touchpoints.v1"],
    "feedback-svc": ["touchpoints.v1", "escalations.v1"],
}
"""The topics each consumer reads; a reader of another service's topic comes after that service. escalation-svc also
reads its own decisions."""

Part = tuple[str, str]
"""A service and a role; `consumer-2` is one more process of the role consumer."""


@dataclass
class System:
    """The four services, with databases and a topic prefix of their own; tests may kill parts of it."""

    servers: Servers
    logs: Path
    """Folder for the logs of the processes."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further settings of all services, as environment variables."""
    own: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further settings of single services, by service."""
    roles: Mapping[str, Sequence[str]] = field(default_factory=lambda: SERVICES)
    """The processes of each service, by their roles."""
    partitions: int = 6
    python: Path = Path(sys.executable)
    """Python interpreter, and so the installed version, of processes that are started from now on."""
    _running: dict[Part, Process] = field(default_factory=dict)
    _ports: dict[Part, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = uuid.uuid4().hex[:12]
        self.kafka: KafkaSettings = self.servers.kafka.model_copy(
            update={"topic_prefix": f"system-{name}.", "partitions": self.partitions}
        )
        self.databases = {service: f"system_{name}_{service.split('-')[0]}" for service in SERVICES}
        self._secret = secrets.token_urlsafe(32)
        self._ports = {(service, role): ports.reserve(2) for service, roles in self.roles.items() for role in roles}

    @property
    def url(self) -> str:
        """The URL of the gateway."""
        return f"http://{HOST}:{self._ports['gateway', 'api'][0]}"

    @property
    def admin_url(self) -> str:
        """The URL of the gateway's admin address."""
        return f"http://{HOST}:{self._ports['gateway', 'api'][1]}"

    def service_url(self, service: str) -> str:
        """The URL of a service's API."""
        return f"http://{HOST}:{self._ports[service, self.roles[service][0]][0]}"

    @property
    def admin_urls(self) -> dict[Part, str]:
        """The URLs of the admin addresses of all parts."""
        return {part: f"http://{HOST}:{ports[1]}" for part, ports in self._ports.items()}

    def dsn(self, service: str) -> str:
        """The URL of a service's database."""
        return database_url.named(self.servers.dsn, self.databases[service])

    async def start(self) -> None:
        """Create topics and databases, start all parts, and wait until they are ready."""
        await self.prepare()
        for part in self._ports:
            self.start_part(part)
        await self.ready(self._ports)

    async def prepare(self) -> None:
        """Create topics and databases."""
        await admin.provision(self.kafka, READS)
        for service in SERVICES:
            dsn = await databases.create(self.servers.dsn, self.databases[service])
            await migrate.upgrade(service.replace("-", "_"), dsn)

    def start_part(self, part: Part) -> None:
        """Start one role of one service."""
        service, role = part
        self._ports.setdefault(part, ports.reserve(2))
        command: list[str | Path] = [self.python, "-m", service.replace("-", "_"), role.partition("-")[0]]
        log = self.logs / f"{service}.{role}.log"
        self._running[part] = Program(f"{service} {role}", command, self._environment(part), log).start()

    async def run_part(self, part: Part) -> int | None:
        """Run a role that ends by itself; returns its exit code."""
        self.start_part(part)
        del self._ports[part]
        return await self._running.pop(part).ended()

    def process(self, part: Part) -> Process:
        """The process of a running part."""
        return self._running[part]

    async def kill(self, part: Part) -> None:
        """Kill a part with SIGKILL, as when a machine fails."""
        process = self._running.pop(part)
        process.handle.send_signal(signal.SIGKILL)
        await process.ended()

    async def stop_part(self, part: Part) -> int | None:
        """Send SIGTERM to a part; returns its exit code."""
        process = self._running.pop(part)
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            process.handle.send_signal(signal.SIGTERM)
        return await process.ended()

    def start_ended(self) -> list[Part]:
        """Restart parts that have ended by themselves, as a supervisor does; returns these parts."""
        ended = [part for part, process in self._running.items() if not process.alive()]
        for part in ended:
            self.start_part(part)
        return ended

    @property
    def parts(self) -> list[Part]:
        """The running parts."""
        return list(self._running)

    async def ready(self, parts: Iterable[Part]) -> None:
        """Wait until /readyz of these parts answers 200."""
        async with httpx.AsyncClient() as client:
            for part in parts:
                await eventually(partial(self._is_ready, client, part), 60)

    async def is_quiet(self) -> bool:
        """Whether all consumers have no lag and all outboxes are empty."""
        return all([await self._is_drained(service) for service in READS])

    async def create_key(self, tenant: str, *, scopes: Iterable[str] = Scope, limited: bool = False) -> str:
        """An API key, created by the operators' command; with default rate limits if `limited`, else very high ones."""
        options = [word for scope in scopes for word in ("--scope", scope)]
        rates = [] if limited else ["--event-rate", "1000000", "--request-rate", "1000000"]
        _, printed = await self.command(
            "gateway", "keys", "create", "tests", "--tenant", tenant, *options, *rates, "--json"
        )
        return str(json.loads(printed)["token"])

    async def command(self, service: str, *arguments: str) -> tuple[int | None, str]:
        """Run an operator's command on a service's database; returns its exit code and stdout."""
        return await self._command(service, arguments, None)

    async def operate(self, service: str, *arguments: str) -> str:
        """Run an operator's command on a service's database; returns stdout and stderr together."""
        _, printed = await self._command(service, arguments, asyncio.subprocess.STDOUT)
        return printed

    async def _command(self, service: str, arguments: Sequence[str], errors: int | None) -> tuple[int | None, str]:
        command: list[str | Path] = [self.python, "-m", "touchpoint.cli", *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment((service, self.roles[service][0])),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        printed, _ = await process.communicate()
        return process.returncode, printed.decode()

    async def terminate(self) -> dict[Part, int | None]:
        """Send SIGTERM to every part; returns their exit codes."""
        parts = self.parts
        codes = await asyncio.gather(*map(self.stop_part, parts))
        return dict(zip(parts, codes, strict=True))

    async def stop(self) -> None:
        """Stop all parts and delete their topics and databases."""
        await asyncio.gather(*(process.stop() for process in self._running.values()))
        self._running.clear()
        await self.drop_databases()
        async with admin.connected(self.kafka) as client:
            mine = [name for name in await client.list_topics() if name.startswith(self.kafka.topic_prefix)]
            await client.delete_topics(mine)

    async def drop_databases(self) -> None:
        """Delete the databases of all services."""
        for name in self.databases.values():
            await databases.drop(self.servers.dsn, name)

    async def _is_drained(self, service: str) -> bool:
        ends = await self._ends(READS[service])
        connection = await asyncpg.connect(self.dsn(service))
        try:
            rows = await connection.fetch("SELECT topic, partition, next FROM offsets")
            waiting = await connection.fetch("SELECT 1 FROM outbox LIMIT 1")
        finally:
            await connection.close()
        return not waiting and {(row["topic"], row["partition"]): row["next"] for row in rows} == ends

    async def _ends(self, topics: list[str]) -> dict[tuple[str, int], int]:
        consumer = AIOKafkaConsumer(**self.kafka.client_options())
        await consumer.start()
        try:
            prefix, numbers = self.kafka.topic_prefix, range(self.kafka.partitions)
            partitions = [TopicPartition(prefix + topic, number) for topic in topics for number in numbers]
            ends = await consumer.end_offsets(partitions)
            return {(place.topic.removeprefix(prefix), place.partition): end for place, end in ends.items()}
        finally:
            await consumer.stop()

    async def _is_ready(self, client: httpx.AsyncClient, part: Part) -> bool:
        assert self._running[part].alive(), f"{part} ended; see {self.logs}"
        try:
            answer = await client.get(f"http://{HOST}:{self._ports[part][1]}/readyz")
        except httpx.TransportError:
            return False
        return answer.is_success

    def _environment(self, part: Part) -> dict[str, str]:
        port, admin_port = self._ports[part]
        urls = {f"{service.split('-')[0].upper()}_URL": self.service_url(service) for service in READS}
        return {
            **os.environ,
            **urls,
            "DATABASE_URL": self.dsn(part[0]),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "KAFKA_PARTITIONS": str(self.kafka.partitions),
            "INTERNAL_TOKEN_SECRETS": json.dumps([self._secret]),
            "PORT": str(port),
            "ADMIN_PORT": str(admin_port),
            **self.extra,
            **self.own.get(part[0], {}),
        }
