"""A container's first process hears SIGTERM from its beginning, and `migrate` as long as it runs."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import uuid
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from touchpoint.base import database_url
from touchpoint.db import databases
from touchpoint.testing import eventually

ENDED = 128 + signal.SIGTERM
CONTAINER = ["unshare", "--pid", "--fork", "--kill-child"]


@dataclass
class First:
    """The first process of a container, or one that is as deaf where this user may make none."""

    started: asyncio.subprocess.Process
    contained: bool

    def terminate(self) -> None:
        """Send it SIGTERM, if it is still there."""
        own = self.started.pid
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split() if self.contained else [own]
            for pid in children:
                os.kill(int(pid), signal.SIGTERM)

    async def code(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(60):
            return await self.started.wait()


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Who is started now ignores SIGTERM until it says otherwise: so has the kernel a container's first process."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
async def first():
    """Starts a service's role, with these settings."""
    contained = shutil.which("unshare") is not None
    if contained:
        tried = await asyncio.create_subprocess_exec(*CONTAINER, "true")
        contained = await tried.wait() == 0
    running = []

    async def start(package: str, role: str, **settings: str) -> First:
        environment = {**os.environ, "INTERNAL_TOKEN_SECRETS": f'["{"x" * 32}"]', "PORT": "0", "ADMIN_PORT": "0"}
        command = [*(CONTAINER if contained else ()), sys.executable, "-m", package, role]
        with contextlib.nullcontext() if contained else deaf():
            running.append(await asyncio.create_subprocess_exec(*command, env=environment | settings))
        return First(running[-1], contained)

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("package", ["gateway", "feedback_svc", "escalation_svc", "metrics_svc"])
async def test_a_process_that_is_still_starting_ends_by_the_first_signal_it_hears(first, package):
    process = await first(package, "api", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    ending = asyncio.create_task(process.code())
    while not ending.done():
        process.terminate()
        await asyncio.wait([ending], timeout=0.02)
    assert ending.result() == ENDED


async def test_a_migration_whose_database_does_not_answer_ends_when_told(first):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        process = await first("feedback_svc", "migrate", DATABASE_URL=url)
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        with connection:
            process.terminate()
            assert await process.code() == ENDED


@pytest.fixture
async def taken(servers) -> AsyncIterator[asyncpg.Connection]:
    """An empty database that another one is migrating, without end."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(await databases.create(servers.dsn, name))
    await connection.execute("SELECT pg_advisory_lock($1)", zlib.crc32(b"touchpoint migrations"))
    yield connection
    await connection.close()
    await databases.drop(servers.dsn, name)


async def test_a_migration_that_waits_for_another_ends_when_told_and_so_does_its_session(first, servers, taken):
    async def waiting() -> bool:
        return await taken.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        )

    async def gone() -> bool:
        return not await waiting()

    url = database_url.named(servers.dsn, await taken.fetchval("SELECT current_database()"))
    process = await first("feedback_svc", "migrate", DATABASE_URL=url)
    await eventually(waiting, 60)
    process.terminate()
    assert await process.code() == ENDED
    await eventually(gone)
