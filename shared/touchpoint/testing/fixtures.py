"""Pytest plugin: real Kafka and PostgreSQL servers, on which each test has its own topic prefix and databases.

`KAFKA_BOOTSTRAP_SERVERS` and `DATABASE_URL` name the servers to use. A server that is not named is started embedded,
once for all workers of a run, and stopped and deleted at the end of the run.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from touchpoint.base.settings import KafkaSettings
from touchpoint.db import databases, migrate
from touchpoint.db.engine import Sessions, create_engine
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.kafka import admin
from touchpoint.kafka.client import LogConsumer
from touchpoint.testing import servers as running
from touchpoint.testing.api import Client, clients
from touchpoint.testing.servers import Servers

Database = Callable[[str], Awaitable[str]]

_RUN = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Set the folder of this run's servers: the controller chooses it and passes it to the xdist workers."""
    config.addinivalue_line("markers", "servers: needs Kafka or PostgreSQL; set by itself")
    folder = getattr(config, "workerinput", {}).get("touchpoint_run")
    config.stash[_RUN] = Path(folder) if folder else running.new_folder()
    if not folder:
        running.stop_abandoned()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Pass the folder to an xdist worker."""
    node.workerinput["touchpoint_run"] = str(node.config.stash[_RUN])  # type: ignore[attr-defined] # xdist has no types


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers of the run, in the controller, however the workers ended."""
    if not hasattr(config, "workerinput") and _RUN in config.stash:
        running.stop(config.stash[_RUN])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need servers, so that `-m "not servers"` runs all others within seconds."""
    for item in items:
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker("servers")


@pytest.fixture(scope="session", autouse=True)
def short_fetches() -> Iterator[None]:
    """Have Kafka answer a fetch without records after 50 ms, not 500, as a reader's next request waits for the answer.

    This applies in the process of the tests; processes that they start have aiokafka's default.
    """
    make = LogConsumer.__init__

    def make_with_short_fetches(self: LogConsumer, settings: KafkaSettings, **options: Any) -> None:
        make(self, settings, **{"fetch_max_wait_ms": 50, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogConsumer, "__init__", make_with_short_fetches)
        yield


@pytest.fixture(scope="session")
async def servers(request: pytest.FixtureRequest) -> Servers:
    """Kafka and PostgreSQL of this run."""
    return await running.ensure(request.config.stash[_RUN])


@pytest.fixture
async def kafka(servers: Servers) -> AsyncIterator[KafkaSettings]:
    """Kafka settings with a topic prefix of this test alone; the topics exist, with 3 partitions each."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    settings = servers.kafka.model_copy(update={"topic_prefix": prefix, "partitions": 3})
    await admin.provision(settings, {})
    yield settings
    async with admin.connected(settings) as client:
        await client.delete_topics([name for name in await client.list_topics() if name.startswith(prefix)])


@pytest.fixture(scope="session")
async def templates(servers: Servers) -> AsyncIterator[Database]:
    """A function that returns the migrated template database of a service; each is migrated once per session."""
    made: dict[str, str] = {}
    suffix = uuid.uuid4().hex[:12]

    async def template(package: str) -> str:
        if package not in made:
            made[package] = f"test_{suffix}_{package}"
            await migrate.upgrade(package, await databases.create(servers.dsn, made[package]))
        return made[package]

    yield template
    for name in made.values():
        await databases.drop(servers.dsn, name)


@pytest.fixture
async def database(servers: Servers, templates: Database) -> AsyncIterator[Database]:
    """A function that creates a fresh, migrated database of a service's package and returns its URL."""
    made: list[str] = []

    async def fresh(package: str) -> str:
        made.append(f"test_{uuid.uuid4().hex}")
        return await databases.create(servers.dsn, made[-1], template=await templates(package))

    yield fresh
    for name in made:
        await databases.drop(servers.dsn, name)


@pytest.fixture
async def empty_database(servers: Servers) -> AsyncIterator[str]:
    """The URL of a database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    yield await databases.create(servers.dsn, name)
    await databases.drop(servers.dsn, name)


@pytest.fixture(scope="session")
def package() -> str:
    """The package of the service whose tests run, such as `feedback_svc`; the service's conftest defines it."""
    raise NotImplementedError("name the service's package by a fixture `package` in its conftest.py")


@pytest.fixture
async def dsn(database: Database, package: str) -> str:
    """A fresh database of the service."""
    return await database(package)


@pytest.fixture
async def sessions(dsn: str) -> AsyncIterator[Sessions]:
    """Sessions on `dsn` as the tables' owner, as the consumer, the worker and operators' commands use them."""
    engine = create_engine(dsn, "tests", lock_timeout="10s")
    yield sessions_of(engine)
    await engine.dispose()


@pytest.fixture
async def client(dsn: str, package: str) -> AsyncIterator[Client]:
    """A function that creates clients of the service's API for a tenant and scopes."""
    app, config = import_module(f"{package}.app"), import_module(f"{package}.config")
    async with clients(app.create_app, config.Settings, dsn) as make_client:
        yield make_client
