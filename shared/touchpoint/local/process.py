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
"""The only address on which a local stack listens."""

STOP_SECONDS = 30
"""How long a process may take to end before it is killed."""

_SAME_START_SECONDS = 2
"""Tolerance when start times are compared, as they depend on the clock. A process id is not reused this soon."""


@dataclass(frozen=True)
class Program:
    """A program to run. `user` (root only) and `folder` (the working folder) are by default those of this process."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    user: str | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM

    def start(self) -> "Process":
        """Start the program in its own session, so that Ctrl-C reaches only this process; append its output to the log.

        Other users can read neither the log nor files that the process writes.
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
        """The process of a record; None if it has ended, even if another process has its id now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = cls(psutil.Process(pid), signal.Signals(stop_signal))
            if abs(process.handle.create_time() - started) < _SAME_START_SECONDS and process.alive():
                return process
        return None

    def record(self) -> dict[str, float]:
        """The arguments of `find`, as values for JSON."""
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
        """Send the stop signal and wait until the process has ended; after `patience` seconds send SIGKILL."""
        self._signal(self.stop_signal)
        try:
            async with asyncio.timeout(patience):
                await self.ended()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.ended()

    async def ended(self) -> int | None:
        """Return once it has ended, with the exit code if it was our child."""
        while self.alive():  # noqa: ASYNC110 # only a parent is notified when a process ends
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
