"""Starts and stops processes. They are identified by id and start time, so that a reused id is never stopped."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from touchpoint.base.errors import UsageError
from touchpoint.local.private import open_private

HOST = "127.0.0.1"
"""Everything local listens here only."""

STOP_SECONDS = 30
"""How long a process may take to end before it is killed."""

_SAME_START_SECONDS = 2
"""Start times come from the clock and may move a little; an id is not given out again this soon."""


@dataclass(frozen=True)
class Program:
    """What to run: as which other system user (only root can), in which folder if not ours, and how it is stopped."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    user: str | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM

    def start(self) -> "Process":
        """Run it in a session of its own, so that Ctrl-C reaches only us; its output is appended to the log.

        Other users can read neither the log nor what the process writes to disk.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab", opener=open_private) as log:
            handle = psutil.Popen(
                [str(word) for word in self.command],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                umask=0o077,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        return Process(handle, self.stop_signal)


@dataclass(frozen=True)
class Process:
    """One running (or ended) process."""

    handle: psutil.Process
    stop_signal: signal.Signals = signal.SIGTERM

    @classmethod
    def find(cls, pid: int, started: float, stop_signal: int) -> "Process | None":
        """The process of a record; None when it has ended, whatever has its id now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = cls(psutil.Process(pid), signal.Signals(stop_signal))
            if abs(process.handle.create_time() - started) < _SAME_START_SECONDS and process.alive():
                return process
        return None

    def record(self) -> dict[str, float]:
        """What `find` needs, as JSON holds it."""
        return {"pid": self.handle.pid, "started": self.handle.create_time(), "stop_signal": int(self.stop_signal)}

    def alive(self) -> bool:
        """Whether it still runs; a child that ended is reaped."""
        try:
            self.handle.wait(timeout=0)
        except psutil.TimeoutExpired:
            return isinstance(self.handle, psutil.Popen) or not self._awaits_its_parent()
        return False

    def _awaits_its_parent(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return bool(self.handle.status() == psutil.STATUS_ZOMBIE)
        return True

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Ask it to end, wait, and end it by force when it takes too long."""
        self._signal(self.stop_signal)
        try:
            async with asyncio.timeout(patience):
                await self.ended()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.ended()

    async def ended(self) -> int | None:
        """Return once it has ended, with the exit code if it was our child."""
        while self.alive():  # noqa: ASYNC110 # only a parent is told when a process ends
            await asyncio.sleep(0.05)
        return self.handle.wait(timeout=0) if isinstance(self.handle, psutil.Popen) else None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.handle.send_signal(number)


def require_free(port: int, purpose: str, remedy: str) -> None:
    """Raise UsageError when something listens on a local port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"Port {port} ({purpose}) cannot be used: {os.strerror(error.errno or 0)}{_owner(port)}; {remedy}"
            ) from None


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
