"""A local stack: starts Kafka, PostgreSQL and the four services in order, and loads the sample."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import psutil

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import databases
from touchpoint.kafka import admin
from touchpoint.local import jars, keys, monitoring, sample
from touchpoint.local.home import KAFKA_SECRET, SERVERS, SUPERVISOR, Home
from touchpoint.local.kafka import Kafka, Passwords, access, brokers_in, cluster
from touchpoint.local.monitoring import Target
from touchpoint.local.postgres import Postgres
from touchpoint.local.process import Process, require_free
from touchpoint.local.progress import Progress
from touchpoint.local.sample import Sample
from touchpoint.local.services import GATEWAY, SERVICES, Environment, LocalService, broker_ports, ports
from touchpoint.local.supervisor import Supervisor

READY_SECONDS = 120


NOT_READY_YET = "paused: starting"
"""The consumer's reason in `/readyz` before it has read its state from the database."""


@dataclass
class Stack:
    """Everything of one local stack. `kafka` and `database_url` name servers to use instead of embedded ones."""

    home: Home
    port: int
    progress: Progress
    brokers: int
    """Number of embedded brokers; ignored if `kafka` is given."""
    kafka: str | None
    database_url: str | None
    state: str = "starting"
    working_kafka: str | None = None
    working_database: str | None = None
    """URL of PostgreSQL, once it is known; recorded for commands such as `touchpoint keys`."""
    watchers: dict[str, str] = field(default_factory=dict)
    """URLs of Prometheus and Alertmanager, if they run, by their label in the welcome text."""
    sample: Sample | None = None
    """The world whose events are sent; set once its history is loaded."""
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.record, self.progress.console.print)

    async def start(self) -> tuple[Environment, str]:
        """Start everything in order; return the services' environment and an API key when the sample is loaded.

        Raises UsageError with the remedy; the caller then still has to stop the processes already started.
        """
        brokers = 0 if self.kafka else self.brokers
        for port, purpose in sorted({**ports(self.port, brokers), **monitoring.ports(self.port)}.items()):
            require_free(port, purpose, "stop it, or use other ports: `touchpoint up --port 18080`")
        await self._check_given_servers()
        kafka = KafkaSettings() if self.kafka else await self._embedded_kafka()
        database_url = self.database_url or await self._embedded_postgres()
        environment = Environment(kafka, brokers, database_url, self.port, self._secret("token"))
        self.working_kafka, self.working_database = kafka.bootstrap_servers, database_url
        with self.progress.step("Preparing databases and topics"):
            await asyncio.gather(*(self._prepare(environment, service) for service in SERVICES))
        with self.progress.step("Starting the four services"):
            await self._services(environment)
        if monitoring.prometheus():
            await self._watch()
        with self.progress.step("Loading a small sample through the gateway"):
            key = await keys.working_key(self.home, environment)
            self.sample = Sample(self.home.sample_file, self._servers(), time.time())
            await sample.load(self.sample, GATEWAY.url(self.port), key)
        return environment, key

    def ready(self) -> None:
        """Record the state `ready` for other commands; called after the welcome text is printed."""
        self.state = "ready"
        self.record()

    async def stop(self) -> None:
        """Stop all processes, the services before the servers; the data is kept."""
        if self.supervisor.kept:
            self.state = "stopping"
            self.record()
            with self.progress.step("Stopping"):
                await self.supervisor.stop(service.name for service in SERVICES)
                await self.supervisor.stop(SERVERS)
        self.home.record({})

    def record(self) -> None:
        """Record the running processes in the stack's folder, for other commands."""
        kept = self.supervisor.kept
        self.home.record(
            {
                "state": self.state,
                "port": self.port,
                "kafka": self.working_kafka,
                "database_url": self.working_database,
                "processes": {
                    SUPERVISOR: Process(psutil.Process()).record(),
                    **{name: each.process.record() for name, each in kept.items()},
                },
                "restarts": {name: each.restarts for name, each in kept.items()},
            }
        )

    async def _check_given_servers(self) -> None:
        """Raise UsageError if a given Kafka or PostgreSQL cannot be reached, before anything is started."""
        if self.kafka:
            with self.progress.step(f"Looking for Kafka at {self.kafka}"):
                async with admin.connected(KafkaSettings()):
                    pass
        if self.database_url:
            with self.progress.step(f"Looking for PostgreSQL at {database_url.without_password(self.database_url)}"):
                async with databases.connected(self.database_url):
                    pass

    async def _embedded_kafka(self) -> KafkaSettings:
        with self.progress.step("Fetching Apache Kafka") as say:
            class_path = await jars.class_path(lambda present, total: say(f"{present} of {total} files"))
        name = "Apache Kafka" if self.brokers == 1 else f"Apache Kafka, {self.brokers} brokers"
        home = self.home
        if KAFKA_SECRET not in home.secrets() and brokers_in(home.folder):
            raise UsageError(
                f"the data in {home.folder} was made by an older version whose Kafka had no password: start with "
                "--fresh, which deletes the data, or use that version"
            )
        passwords = Passwords(self._secret(KAFKA_SECRET), secrets.token_urlsafe(32))
        brokers = cluster(home.folder, home.logs, broker_ports(self.port, self.brokers), class_path, passwords)
        return access(await self._serve(name, brokers), passwords.clients)

    async def _embedded_postgres(self) -> str:
        return await self._serve(
            "PostgreSQL", [Postgres(self.home.folder / "postgres", self.home.logs / "postgres.log")]
        )

    async def _serve(self, name: str, servers: Sequence[Kafka | Postgres]) -> str:
        """Start servers at the same time, wait until they are ready, and return their addresses."""
        with self.progress.step(f"Starting {name}"):
            programs = await asyncio.gather(*(asyncio.to_thread(server.prepare) for server in servers))
            processes = [self.supervisor.start(program) for program in programs]
            await asyncio.gather(*(server.ready(it) for server, it in zip(servers, processes, strict=True)))
        return ",".join(server.address for server in servers)

    async def _watch(self) -> None:
        """Start Prometheus and Alertmanager if they are installed; the stack works without them."""
        targets = [Target(service.admin_url(self.port), service.name, "all") for service in SERVICES]
        with self.progress.step("Starting Prometheus"):
            for watcher in monitoring.installed(self.home.folder, self.home.logs, self.port, targets):
                program = watcher.prepare()
                try:
                    await watcher.ready(self.supervisor.start(program))
                except UsageError as error:
                    await self.supervisor.stop([program.name])
                    self.progress.console.print(str(error))
                else:
                    self.watchers[watcher.title] = watcher.url

    async def _prepare(self, environment: Environment, service: LocalService) -> None:
        """Create the service's database, its tables and topics."""
        await databases.create(environment.database_url, service.database)
        process = environment.program(service, "migrate", self.home.logs).start()
        try:
            failed = await process.ended()
        except asyncio.CancelledError:
            await process.stop()
            raise
        if failed:
            raise UsageError(f"{service.name}'s migration failed: {self._last_line(service.name)}")

    async def _services(self, environment: Environment) -> None:
        for service in SERVICES:
            self.supervisor.start(environment.program(service, "all", self.home.logs))
        async with httpx.AsyncClient(timeout=5) as client:
            await asyncio.gather(*(self._ready(client, service) for service in SERVICES))

    async def _ready(self, client: httpx.AsyncClient, service: LocalService) -> None:
        checks = "no answer"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    if not self.supervisor.kept[service.name].process.alive():
                        raise UsageError(f"{service.name} ended while starting: {self._last_line(service.name)}")
                    try:
                        answer = await client.get(f"{service.admin_url(self.port)}/readyz")
                    except httpx.TransportError:
                        pass  # not listening yet
                    else:
                        if answer.is_success or _waits_for_a_person(answer.json()["checks"]):
                            return
                        checks = answer.text
                    await asyncio.sleep(0.1)
        except TimeoutError:
            log = self.home.logs / f"{service.name}.log"
            raise UsageError(
                f"{service.name} is not ready after {READY_SECONDS} s; /readyz: {checks}; log: {log}"
            ) from None

    def _last_line(self, name: str) -> str:
        log = self.home.logs / f"{name}.log"
        lines = log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'its log is empty'} (log: {log})"

    async def go_on(self, key: str) -> None:
        """Send the sample's events as their time comes, until cancelled."""
        assert self.sample, "the stack was started"
        await sample.go_on(self.sample, GATEWAY.url(self.port), key, self.progress.console.print)

    def _servers(self) -> str:
        """Which Kafka and PostgreSQL hold what was sent."""
        database = database_url.without_password(self.database_url) if self.database_url else "embedded"
        return f"{self.kafka or 'embedded'} {database}"

    def _secret(self, name: str) -> str:
        """A secret of this stack, made the first time."""
        if name not in self.home.secrets():
            self.home.keep_secret(**{name: secrets.token_urlsafe(32)})
        return self.home.secrets()[name]


def _waits_for_a_person(checks: dict[str, str]) -> bool:
    """Whether the only failed check is a halted or paused consumer: an operator can resume it only if the rest runs."""
    failed = {name: reason for name, reason in checks.items() if reason != "ok"}
    consumer = failed.pop("consumer", "")
    return not failed and consumer.startswith(("halted: ", "paused: ")) and consumer != NOT_READY_YET
