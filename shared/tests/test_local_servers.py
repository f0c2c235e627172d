"""The embedded PostgreSQL and Kafka's jars: what goes wrong on other machines."""

import hashlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from touchpoint.errors import UsageError
from touchpoint.local import jars, kafka
from touchpoint.local.postgres import Postgres
from touchpoint.testing import servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder where PostgreSQL can lie, whoever runs the tests; too deep for a Unix socket in it."""
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


async def test_postgres_starts_and_keeps_its_data_wherever_it_lies(folder: Path) -> None:
    interrupted_first_start(folder)
    server, before = Postgres(folder / "postgres", folder / "log"), modes_above(folder)
    for expected in (0, 1):
        process = server.prepare().start()
        await server.ready(process)
        connection = await asyncpg.connect(server.address)
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (row integer)")
        assert await connection.fetchval("SELECT count(*) FROM kept") == expected
        await connection.execute("INSERT INTO kept VALUES (1)")
        await process.stop()  # although a client is connected
    assert modes_above(folder) == before, "no folder was opened to other users"
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700


async def test_a_postgres_that_cannot_start_points_to_its_log(folder: Path) -> None:
    server = Postgres(folder / "postgres", folder / "log", (("shared_buffers", "nonsense"),))
    process = server.prepare().start()
    with pytest.raises(UsageError, match=f"PostgreSQL ended while starting; its log says why: {folder}/log"):
        await server.ready(process)
    assert "nonsense" in server.log.read_text()


class FakeArtifact:
    """A jar of which each download has other content, the last one for ever."""

    def __init__(self, path: Path, *contents: bytes) -> None:
        self.path, self.contents = path, list(contents)

    def resolve(self) -> Path:
        if not self.path.exists():
            self.path.write_bytes(self.contents.pop(0) if len(self.contents) > 1 else self.contents[0])
        return self.path


def fetch(monkeypatch: pytest.MonkeyPatch, artifact: FakeArtifact) -> Path:
    monkeypatch.setattr(jars, "_artifact", lambda *_: artifact)
    return jars.fetch(None, "org.example:jar:1", hashlib.sha256(b"whole").hexdigest())


def test_a_jar_whose_download_was_interrupted_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(monkeypatch, FakeArtifact(tmp_path / "jar", b"wh", b"whole")).read_bytes() == b"whole"


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is not the file that was locked"):
        fetch(monkeypatch, FakeArtifact(tmp_path / "jar", b"other"))
    assert not list(tmp_path.iterdir()), "it is not left for others to use"


def test_brokers_do_not_start_on_the_data_of_another_number_of_them(tmp_path: Path) -> None:
    three = [(1, 2), (3, 4), (5, 6)]
    made = kafka.cluster(tmp_path, tmp_path, three, [])
    for broker in made:
        stamp = broker.folder / "data" / "meta.properties"
        stamp.parent.mkdir(parents=True)
        stamp.write_text(f"#\nversion=1\ncluster.id={made[0].cluster_id}\n")
    assert kafka.cluster(tmp_path, tmp_path, three, []) == made
    with pytest.raises(UsageError, match="was made with 3 brokers: start it with --brokers 3, or --fresh"):
        kafka.cluster(tmp_path, tmp_path, three[:1], [])
