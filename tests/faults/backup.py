"""Back up a service's database and restore it, as docs/operations.md describes."""

import asyncio
import os
import shutil
from pathlib import Path

from touchpoint.db import databases
from touchpoint.local import postgres
from touchpoint.testing.system import System


async def back_up(dsn: str, path: Path) -> Path:
    """Dump a database, while its service runs; the dump is of a single moment."""
    await _run("pg_dump", "--format=custom", f"--file={path}", dsn)
    return path


async def restore(system: System, service: str, backup: Path) -> None:
    """Replace a service's database by a backup; its processes must have stopped."""
    await databases.drop(system.servers.dsn, system.databases[service])
    dsn = await databases.create(system.servers.dsn, system.databases[service])
    await _run("pg_restore", "--exit-on-error", f"--dbname={dsn}", str(backup))


async def _run(program: str, *arguments: str) -> None:
    """Run a program of the embedded server if that is used, else of this machine."""
    folder = None if "DATABASE_URL" in os.environ else postgres.installed(postgres.system_user()) / "bin"
    path = shutil.which(program, path=folder)
    assert path, f"{program} is needed"
    process = await asyncio.create_subprocess_exec(path, *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
