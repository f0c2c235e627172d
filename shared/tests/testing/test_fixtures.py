"""The test fixtures: tests share servers, but no topics or databases, and leave nothing behind."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import admin
from touchpoint.testing import servers as running
from touchpoint.testing.fixtures import Database
from touchpoint.testing.servers import Servers


@pytest.fixture
def without_postgres(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
    """An environment without PostgreSQL, so that an embedded one is started, which is faster than an embedded Kafka."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers.kafka.bootstrap_servers)
    monkeypatch.delenv("DATABASE_URL", raising=False)


async def start(folder: Path) -> Servers:
    """Get the servers as another xdist worker does, in an event loop of its own."""
    return await asyncio.to_thread(asyncio.run, running.ensure(folder))


@pytest.mark.usefixtures("without_postgres")
async def test_workers_share_one_server_that_stops_with_the_run() -> None:
    folder = running.new_folder()
    first, second = await asyncio.gather(start(folder), start(folder))
    assert first == second
    await (await asyncpg.connect(first.dsn)).close()

    await asyncio.to_thread(running.stop, folder)
    with pytest.raises(FileNotFoundError):
        await asyncpg.connect(first.dsn)


@pytest.mark.usefixtures("without_postgres")
async def test_servers_of_a_killed_run_are_stopped_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 2**22 + 1)  # above every process id
        abandoned = running.new_folder()
    left = await start(abandoned)
    await asyncio.to_thread(running.stop_abandoned)
    with pytest.raises(FileNotFoundError):
        await asyncpg.connect(left.dsn)


async def test_a_test_has_its_own_topics(kafka: KafkaSettings) -> None:
    async with admin.connected(kafka) as client:
        names = [name for name in await client.list_topics() if name.startswith(kafka.topic_prefix)]
    assert len(names) == 3


async def test_a_test_has_its_own_migrated_databases(database: Database) -> None:
    first, second = [await asyncpg.connect(await database("touchpoint.db")) for _ in range(2)]
    await first.execute("INSERT INTO consumers (consumer) VALUES ('metrics-svc')")
    counts = [await each.fetchval("SELECT count(*) FROM consumers") for each in (first, second)]
    await first.close()
    await second.close()
    assert counts == [1, 0]
