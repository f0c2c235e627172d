"""The folder of a local stack: its data, logs, secrets, and the record of its running processes."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from touchpoint.base.errors import UsageError
from touchpoint.local import private
from touchpoint.local.postgres import ROOTS_FOLDER
from touchpoint.local.process import STOP_SECONDS, Process

SUPERVISOR = "supervisor"
SERVERS = ("prometheus", "alertmanager", "kafka", "kafka-2", "kafka-3", "postgres")
"""Names of processes in the record: the supervisor (`touchpoint up`), and the servers, which are stopped last."""

KAFKA_SECRET = "kafka"  # noqa: S105 # the name of a secret
"""The name of the embedded Kafka's password among the secrets."""

PROJECT = Path(__file__).parents[3]


def default_folder() -> Path:
    """`.touchpoint` in the project; for root a folder that PostgreSQL's own user can reach, one for each checkout."""
    if os.getuid() != 0:
        return PROJECT / ".touchpoint"
    return ROOTS_FOLDER / f"{PROJECT.name}-{hashlib.sha256(os.fsencode(PROJECT)).hexdigest()[:8]}"


@dataclass(frozen=True)
class Home:
    """One stack's folder."""

    folder: Path

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs, `<name>.log`."""
        return self.folder / "logs"

    def make(self) -> None:
        """Create the folder, and remove other users' access to its contents, which an older version left open.

        Root's folder can be entered by other users: PostgreSQL runs as another user and must reach its own folder.
        """
        if os.getuid() == 0:
            private.make_passage(self.folder)
        elif not self.folder.exists():
            private.make_folder(self.folder)
        private.make_folder(self.logs)
        for path in (self.folder / name for name in SERVERS):
            if path.exists():
                path.chmod(0o700)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the stack's file lock. Raises UsageError if another process holds it; a killed process releases it."""
        self.make()
        with open(self.folder / "lock", "w", opener=private.open_private) as lock:
            os.fchmod(lock.fileno(), 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "Touchpoint is already running here: `touchpoint status` shows it, `touchpoint down` stops it"
                ) from None
            yield

    def forget(self) -> None:
        """Delete all data and secrets; logs stay."""
        for name in (*SERVERS, "secrets.json", self.sample_file.name):
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def record(self, state: dict[str, Any]) -> None:
        """Store the state and the processes of the stack, for `status` and `down`."""
        _replace(self.folder / "running.json", state)

    def recorded(self) -> dict[str, Any]:
        """The record stored last; empty if there is none or the stack was stopped properly."""
        return _load(self.folder / "running.json")

    def processes(self) -> dict[str, Process]:
        """The recorded processes that still run, by name."""
        recorded = {name: Process.find(**each) for name, each in self.recorded().get("processes", {}).items()}
        return {name: process for name, process in recorded.items() if process is not None}

    async def stop_processes(self) -> None:
        """Stop the recorded processes that still run: the supervisor first, which stops the others; servers last."""
        supervisor = self.processes().get(SUPERVISOR)
        if supervisor:
            await supervisor.stop(patience=3 * STOP_SECONDS)
        left = self.processes()
        await asyncio.gather(*(process.stop() for name, process in left.items() if name not in SERVERS))
        await asyncio.gather(*(process.stop() for name, process in left.items() if name in SERVERS))
        self.record({})

    @property
    def sample_file(self) -> Path:
        """How much of the sample was sent to the servers of this folder."""
        return self.folder / "sample.json"

    @property
    def secrets_file(self) -> Path:
        """The file with the secrets, which only the owner of the folder can read."""
        return self.folder / "secrets.json"

    def secrets(self) -> dict[str, str]:
        """All secrets by name."""
        return _load(self.secrets_file)

    def keep_secret(self, **secrets: str) -> None:
        """Add or replace these secrets."""
        _replace(self.secrets_file, self.secrets() | secrets)


def _load(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise UsageError(f"{path.parent} belongs to another user: run it as the user who ran `touchpoint up`") from None


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Replace the file atomically: readers see either the old content or the new. Only the owner can read it."""
    fresh = path.with_suffix(".new")
    private.write(fresh, json.dumps(content, indent=2))
    fresh.replace(path)
