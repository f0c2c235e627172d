"""The servers of a test run: those named by the environment, else embedded ones shared by all workers of the run."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from touchpoint.base.settings import KafkaSettings
from touchpoint.local import jars
from touchpoint.local.kafka import Kafka, cluster, in_sync
from touchpoint.local.postgres import ROOTS_FOLDER, Postgres
from touchpoint.local.process import Process
from touchpoint.testing import ports

_NAME = "touchpoint-test"

Properties = tuple[tuple[str, str], ...]
QUICK: Properties = (("max_connections", "300"), ("fsync", "off"))
"""PostgreSQL settings for fast tests whose data need not survive a crash."""
SOON_BACK: Properties = (("broker.session.timeout.ms", "2000"), ("broker.heartbeat.interval.ms", "500"))
"""Broker settings by which a killed broker can start again after 2 s: the cluster must first consider it dead, which
takes 9 s by default."""


@dataclass(frozen=True)
class Servers:
    """Addresses of Kafka and PostgreSQL; the user of `dsn` may create databases."""

    kafka: KafkaSettings
    dsn: str


def new_folder() -> Path:
    """A folder name for the servers of this process's test run; the folder is created when a test needs a server."""
    parent = ROOTS_FOLDER if os.getuid() == 0 else Path(tempfile.gettempdir())
    return parent / f"{_NAME}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


async def ensure(folder: Path, postgres: Properties = QUICK) -> Servers:
    """The servers of the run, which are started if they do not run yet."""
    settings = KafkaSettings()
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        settings = KafkaSettings(bootstrap_servers=await _once(folder, "kafka", _kafka))
    make_postgres = partial(_postgres, settings=postgres)
    return Servers(settings, os.environ.get("DATABASE_URL") or await _once(folder, "postgres", make_postgres))


@dataclass
class Mortal:
    """A server that a test may kill and start again, at the same address with the same data."""

    server: Kafka | Postgres
    process: Process

    async def kill(self) -> None:
        """Send SIGKILL and wait until the server's child processes have ended, too, so that it can be started again."""
        others = self.process.handle.children(recursive=True)
        self.process.handle.send_signal(signal.SIGKILL)
        await self.process.ended()
        await asyncio.to_thread(psutil.wait_procs, others)

    async def start(self) -> None:
        """Start the server again, and wait until it answers."""
        self.process = self.server.prepare().start()
        await self.server.ready(self.process)


@asynccontextmanager
async def own_postgres() -> AsyncIterator[Mortal]:
    """A PostgreSQL server for one test, which may kill it."""

    async def make(folder: Path) -> list[Postgres]:
        return [await _postgres(folder, QUICK)]

    async with _own(make) as [server]:
        yield server


@asynccontextmanager
async def own_kafka(settings: Properties = ()) -> AsyncIterator[Mortal]:
    """A Kafka broker for one test, which may kill it."""
    async with own_brokers(1, settings) as [broker]:
        yield broker


def reached(brokers: Sequence[Mortal]) -> KafkaSettings:
    """The settings for a cluster of these brokers: their addresses, and the replication that fits their number."""
    return KafkaSettings(
        bootstrap_servers=",".join(broker.server.address for broker in brokers),
        replication_factor=len(brokers),
        min_insync_replicas=in_sync(len(brokers)),
    )


def own_brokers(count: int, settings: Properties = ()) -> AbstractAsyncContextManager[list[Mortal]]:
    """A Kafka cluster of `count` brokers for one test, which may kill them."""
    return _own(partial(_brokers, count=count, settings=settings))


@asynccontextmanager
async def _own(make: Callable[[Path], Awaitable[Sequence[Kafka | Postgres]]]) -> AsyncIterator[list[Mortal]]:
    folder = new_folder()
    folder.mkdir(mode=0o711, parents=True)
    mortals = [Mortal(server, server.prepare().start()) for server in await make(folder)]
    try:
        await asyncio.gather(*(mortal.server.ready(mortal.process) for mortal in mortals))
        yield mortals
    finally:
        await asyncio.gather(*(mortal.process.stop() for mortal in mortals))
        shutil.rmtree(folder)


def stop(folder: Path) -> None:
    """Stop the servers that `ensure` started, and delete the folder."""
    for name in ("kafka", "postgres"):  # the folder may also contain files of a `System`
        record = folder / f"{name}.json"
        process = Process.find(**json.loads(record.read_text())["process"]) if record.exists() else None
        if process:
            asyncio.run(process.stop())
    shutil.rmtree(folder, ignore_errors=True)


def stop_abandoned() -> None:
    """Stop the servers of test runs that were killed before they could stop them."""
    for folder in new_folder().parent.glob(f"{_NAME}-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[2])):
            stop(folder)


async def _once(folder: Path, name: str, make: Callable[[Path], Awaitable[Kafka | Postgres]]) -> str:
    """The address of a server; the first worker to ask for it starts it, the others wait."""
    record = folder / f"{name}.json"
    with _one_at_a_time(folder):
        address = _recorded(record)
        if address is None:
            server = await make(folder)
            process = server.prepare().start()
            _write(record, server.address, process)
            await server.ready(process)
            address = server.address
    return address


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _recorded(record: Path) -> str | None:
    return json.loads(record.read_text())["address"] if record.exists() else None


def _write(record: Path, address: str, process: Process) -> None:
    record.write_text(json.dumps({"address": address, "process": process.record()}))


async def _kafka(folder: Path) -> Kafka:
    [broker] = await _brokers(folder, 1)
    return broker


async def _brokers(folder: Path, count: int, settings: Properties = ()) -> list[Kafka]:
    class_path = await jars.class_path(lambda *_: None)
    free = ports.reserve(2 * count)
    brokers = cluster(folder, folder, list(zip(free[:count], free[count:], strict=True)), class_path)
    return [replace(broker, settings=settings) for broker in brokers]


async def _postgres(folder: Path, settings: Properties) -> Postgres:
    return Postgres(folder / "postgres", folder / "postgres.log", settings)
