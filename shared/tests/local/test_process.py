"""Processes of the local stack: they are found by their record and stopped reliably, and no other process is."""

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from touchpoint.base.errors import UsageError
from touchpoint.local.process import Process, Program, require_free
from touchpoint.testing import eventually

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)

CARELESS_PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""


def start(folder: Path, code: str = "import time; time.sleep(60)") -> Process:
    return Program("trial", [sys.executable, "-c", code], dict(os.environ), folder / "trial.log").start()


async def test_a_process_is_found_by_its_record_until_it_ends(tmp_path: Path) -> None:
    process = start(tmp_path)
    record = process.record()
    assert Process.find(**record) is not None
    await process.stop()
    assert Process.find(**record) is None


async def test_another_process_with_the_same_pid_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert Process.find(**process.record() | {"started": process.handle.create_time() - 60}) is None
    await process.stop()


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, STUBBORN)
    await eventually(lambda: "ready" in (tmp_path / "trial.log").read_text())
    await process.stop(patience=0.1)
    assert await process.ended() == -signal.SIGKILL


async def test_a_zombie_process_counts_as_ended(tmp_path: Path) -> None:
    parent = start(tmp_path, CARELESS_PARENT)
    pid = await eventually((tmp_path / "trial.log").read_text)
    child = Process(psutil.Process(int(pid)))
    await child.stop()
    assert await child.ended() is None
    await parent.stop()


async def test_a_process_has_its_own_session_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert os.getsid(process.handle.pid) != os.getsid(0)
    await process.stop()


def test_the_error_about_a_busy_port_names_its_process_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^Port {port} \(gateway\) .* \(process {os.getpid()}\); stop it$"):
            require_free(port, "gateway", "stop it")
    require_free(port, "gateway", "stop it")
