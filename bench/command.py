"""Shared by this package's commands: starts Kafka and PostgreSQL, and stops them at the end, also after an error."""

import logging
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer
import uvloop
from rich.console import Console

from bench import results
from bench.scenario import Bench
from touchpoint.testing import servers

POSTGRES = (
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("max_connections", "200"),
)
"""Commits are flushed to disk before they are acknowledged, as in production; memory settings as on a small server."""

console = Console(stderr=True, highlight=False)
LOGS = results.FOLDER / "logs"
"""Logs of the processes of the last run; the servers' own folder is deleted."""


def run(command: Callable[..., None]) -> None:
    """Run `command` as a command-line program, with the process's arguments."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app()


def on_servers(work: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run `work` on Kafka and PostgreSQL: those the environment names, else embedded ones, deleted afterwards."""
    if os.getloadavg()[0] > 1:
        console.print(f"[yellow]The machine is busy (load {os.getloadavg()[0]:.1f}): figures will be low.[/]")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs each connection attempt while the broker starts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    servers.stop_abandoned()
    folder = servers.new_folder()
    shutil.rmtree(LOGS, ignore_errors=True)

    async def start_and_work() -> None:
        await work(Bench(await servers.ensure(folder, POSTGRES), LOGS))

    try:
        uvloop.run(start_and_work())
    finally:
        servers.stop(folder)
