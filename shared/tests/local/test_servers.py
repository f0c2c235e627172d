"""The embedded PostgreSQL, Kafka and its jars under the conditions of other machines."""

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed
from aiokafka.protocol.admin import CreateTopicsRequest

from touchpoint.base.errors import UsageError
from touchpoint.kafka import admin
from touchpoint.local import jars, kafka, postgres
from touchpoint.local.postgres import Postgres
from touchpoint.testing import ports, servers

pytestmark = pytest.mark.servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL can use, whoever runs the tests; its path is too long for a Unix socket."""
    top = servers.new_folder()
    deep = top / ("a-folder-whose-name-is-far-too-long-for-the-path-of-a-unix-socket" * 2)
    deep.mkdir(parents=True)
    yield deep
    shutil.rmtree(top)
    shutil.rmtree(Postgres(deep / "postgres", deep / "log").socket_folder)


def interrupted_first_start(folder: Path) -> None:
    (folder / "postgres" / "new").mkdir(parents=True)


def modes_above(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in folder.parents if path.exists()}


async def test_postgres_starts_and_keeps_its_data_in_a_folder_with_a_long_path(folder: Path) -> None:
    interrupted_first_start(folder)
    server, before = Postgres(folder / "postgres", folder / "log"), modes_above(folder)
    for expected in (0, 1):
        process = server.prepare().start()
        await server.ready(process)
        connection = await asyncpg.connect(server.address)
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (row integer)")
        assert await connection.fetchval("SELECT count(*) FROM kept") == expected
        await connection.execute("INSERT INTO kept VALUES (1)")
        await process.stop()  # while a client is connected
    assert modes_above(folder) == before, "no folder was opened to other users"
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700


async def test_the_error_of_a_postgres_that_cannot_start_names_its_log(folder: Path) -> None:
    server = Postgres(folder / "postgres", folder / "log", (("shared_buffers", "nonsense"),))
    process = server.prepare().start()
    with pytest.raises(UsageError, match=f"PostgreSQL ended while starting; its log says why: {folder}/log"):
        await server.ready(process)
    assert "nonsense" in server.log.read_text()


class FakeArtifact:
    """A jar whose downloads have the given contents in turn; the last content is repeated."""

    def __init__(self, path: Path, *contents: bytes) -> None:
        self.path, self.contents = path, list(contents)

    def resolve(self) -> Path:
        if not self.path.exists():
            self.path.write_bytes(self.contents.pop(0) if len(self.contents) > 1 else self.contents[0])
        return self.path


def fetch(monkeypatch: pytest.MonkeyPatch, artifact: FakeArtifact) -> Path:
    monkeypatch.setattr(jars, "_artifact", lambda *_: artifact)
    return jars.fetch(None, "org.example:jar:1", hashlib.sha256(b"whole").hexdigest())


def test_a_jar_whose_download_was_interrupted_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(monkeypatch, FakeArtifact(tmp_path / "jar", b"wh", b"whole")).read_bytes() == b"whole"


def test_a_jar_with_another_hash_than_the_locked_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"does not have the SHA-256 in kafka\.lock"):
        fetch(monkeypatch, FakeArtifact(tmp_path / "jar", b"other"))
    assert not list(tmp_path.iterdir()), "it is not left for others to use"


async def create_a_topic(port: int, **user: str) -> object:
    """Send a request that needs authentication to a broker or a controller; returns its response."""
    connection = await create_conn("127.0.0.1", port, request_timeout_ms=10_000, **user)
    try:
        topic = ("made", 1, 1, [], [])
        return await connection.send(CreateTopicsRequest([topic], timeout=5000, validate_only=True))
    finally:
        connection.close()


async def test_three_brokers_and_their_controllers_refuse_clients_without_a_password(tmp_path: Path) -> None:
    free, folder = ports.reserve(6), tmp_path
    passwords = kafka.Passwords("of the clients", "of the controllers")
    class_path = await jars.class_path(lambda *_: None)
    brokers = kafka.cluster(folder, folder, list(zip(free[:3], free[3:], strict=True)), class_path, passwords)
    processes = [broker.prepare().start() for broker in brokers]
    try:
        for broker, process in zip(brokers, processes, strict=True):
            await broker.ready(process)
        for port in free:
            with pytest.raises(KafkaConnectionError):
                await create_a_topic(port)
        controller = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "controller"}
        with pytest.raises(SaslAuthenticationFailed):
            await create_a_topic(
                free[3], security_protocol="SASL_PLAINTEXT", **controller, sasl_plain_password="of the clients"
            )
        assert await create_a_topic(
            free[3], security_protocol="SASL_PLAINTEXT", **controller, sasl_plain_password="of the controllers"
        )
        async with admin.connected(brokers[0].access) as client:
            assert len((await client.describe_cluster())["brokers"]) == 3
        open_to_others = [path for path in folder.rglob("kafka*/**/*") if path.stat().st_mode & 0o077]
        assert open_to_others == []
    finally:
        await asyncio.gather(
            *(process.stop() for process in processes)
        )  # stopped one by one, the last controller would wait for the others


def test_a_data_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "postgres").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="belongs to another user"):
        Postgres(tmp_path / "postgres", tmp_path / "log").prepare()


@pytest.mark.skipif(os.getuid() != 0, reason="only root copies the binaries for another user")
def test_under_a_strict_umask_postgres_can_still_read_the_binaries_that_root_copied(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(postgres, "ROOTS_FOLDER", tmp_path / "of" / "root")
    before = os.umask(0o077)
    try:
        installed = postgres.installed("touchpoint")
    finally:
        os.umask(before)
    passed = [installed, *installed.parents][: -len(tmp_path.parents) - 1]
    assert all(folder.stat().st_mode & 0o001 for folder in passed if folder != tmp_path), passed


def test_brokers_do_not_start_on_data_of_another_number_of_brokers(tmp_path: Path) -> None:
    three = [(1, 2), (3, 4), (5, 6)]
    made = kafka.cluster(tmp_path, tmp_path, three, [])
    for broker in made:
        stamp = broker.folder / "data" / "meta.properties"
        stamp.parent.mkdir(parents=True)
        stamp.write_text(f"#\nversion=1\ncluster.id={made[0].cluster_id}\n")
    assert kafka.cluster(tmp_path, tmp_path, three, []) == made
    with pytest.raises(UsageError, match="was made with 3 brokers: start it with --brokers 3, or with --fresh"):
        kafka.cluster(tmp_path, tmp_path, three[:1], [])
