"""SIGTERM ends a container's first process (PID 1) from its start on, and `migrate` at any time."""

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
    """A process as PID 1 of a namespace; if this user may not create one, a process that ignores SIGTERM at first."""

    started: asyncio.subprocess.Process
    contained: bool

    def terminate(self) -> None:
        """Send it SIGTERM if it still runs."""
        own = self.started.pid
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split() if self.contained else [own]
            for pid in children:
                os.kill(int(pid), signal.SIGTERM)

    async def code(self) -> int:
        """Wait for its end; its exit code."""
        async with asyncio.timeout(60):
            return await self.started.wait()


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Start processes with SIGTERM ignored until they set a handler, as the kernel ignores it for PID 1."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
async def first():
    """A function that starts a service's role with these settings."""
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
async def test_sigterm_ends_a_process_that_is_still_starting(first, package):
    process = await first(package, "api", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    ending = asyncio.create_task(process.code())
    while not ending.done():
        process.terminate()
        await asyncio.wait([ending], timeout=0.02)
    assert ending.result() == ENDED


async def test_sigterm_ends_a_migration_whose_database_does_not_answer(first):
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
    """A connection to an empty database that holds the lock of migrations until the test ends."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(await databases.create(servers.dsn, name))
    await connection.execute("SELECT pg_advisory_lock($1)", zlib.crc32(b"touchpoint migrations"))
    yield connection
    await connection.close()
    await databases.drop(servers.dsn, name)


async def test_sigterm_ends_a_migration_that_waits_for_the_lock_and_its_session(first, servers, taken):
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
