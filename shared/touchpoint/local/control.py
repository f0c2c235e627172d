"""A stack seen from another terminal: start it in the background, ask how it is, read its logs."""

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

import httpx

from touchpoint.base.errors import UsageError
from touchpoint.base.lines import wrapped
from touchpoint.local.home import SUPERVISOR, Home
from touchpoint.local.process import Process, Program
from touchpoint.local.services import SERVICES, LocalService

LAST_LINES = 100
LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5


async def detach(home: Home, port: int, *, brokers: int, fresh: bool, output: TextIO) -> None:
    """Run `touchpoint up` in the background and return once it is ready; until then its output is shown.

    Raises UsageError when it does not get that far; it has then stopped again, as it does when we are interrupted.
    """
    home.make()
    log = home.logs / f"{SUPERVISOR}.log"
    options = ["--port", str(port), "--brokers", str(brokers), *(["--fresh"] if fresh else [])]
    command = [sys.executable, "-P", "-m", "touchpoint.cli", "up", *options]
    seen = log.stat().st_size if log.exists() else 0
    process = Program(SUPERVISOR, command, {**os.environ, "TOUCHPOINT_DATA": str(home.folder)}, log).start()
    try:
        with log.open() as lines:
            lines.seek(seen)
            while process.alive() and not _ready(home, process):
                output.write(lines.read())
                await asyncio.sleep(LOOK_SECONDS)
            output.write(lines.read())
    except asyncio.CancelledError:
        await process.stop()
        raise
    if not process.alive():
        raise UsageError(f"Touchpoint did not start: its last line above says why (log: {log})")


def _ready(home: Home, process: Process) -> bool:
    recorded = home.recorded()
    return recorded.get("state") == "ready" and recorded["processes"][SUPERVISOR]["pid"] == process.handle.pid


async def status(home: Home) -> dict[str, Any]:
    """How the stack is: `state` (ready, not ready, starting, stopping, stopped, abandoned), `port`, and each process.

    Abandoned: who ran it was killed; the processes left are stopped by `down` and by the next `up`. A process has
    `name`, `pid`, `restarts`, `wrong` (None, or why it does not work), and, if it is a service, `ready` and `url`.
    """
    recorded, running = home.recorded(), home.processes()
    state = recorded.get("state", "stopped")
    if recorded and SUPERVISOR not in running:
        state = "abandoned" if running else "stopped"
    names = [name for name in recorded.get("processes", {}) if name != SUPERVISOR]
    found: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "pid": running[name].handle.pid if name in running else None,
            "restarts": recorded["restarts"][name],
            "wrong": None if name in running else "it does not run",
        }
        for name in names
    }
    services = [service for service in SERVICES if service.name in found]
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
        answers = await asyncio.gather(*(_not_ready(client, service, recorded["port"]) for service in services))
    for service, why in zip(services, answers, strict=True):
        each = found[service.name]
        each |= {"ready": why is None, "url": service.url(recorded["port"]), "wrong": each["wrong"] or why}
    if state == "ready" and any(each["wrong"] for each in found.values()):
        state = "not ready"
    return {"state": state, "port": recorded.get("port"), "processes": list(found.values())}


async def _not_ready(client: httpx.AsyncClient, service: LocalService, port: int) -> str | None:
    """Why a service is not ready, by its first check that fails; None when it is."""
    try:
        answer = await client.get(f"{service.admin_url(port)}/readyz")
    except httpx.TimeoutException:
        return f"it does not answer within {ANSWER_SECONDS} s"
    except httpx.TransportError:
        return "it does not answer"
    if answer.is_success:
        return None
    checks = {name: why for name, why in answer.json()["checks"].items() if why != "ok"}
    return next((f"{name}: {why}" for name, why in checks.items()), "it says no more than that")


def told(found: dict[str, Any]) -> Iterator[str]:
    """The stack as people read it: the verdict, a line for each process, and below it why it does not work."""
    yield f"Touchpoint is {found['state']}."
    for process in found["processes"]:
        state = "ready" if process.get("ready") else "running"
        if process["wrong"]:
            state = "NOT READY" if process["pid"] else "NOT RUNNING"
        restarts = f"restarted {process['restarts']}x" if process["restarts"] else ""
        line = f"  {process['name']:<15} {state:<12} {process['pid'] or '':<8} {restarts:<14} {process.get('url', '')}"
        yield line.rstrip()
        if process["wrong"]:
            yield wrapped(process["wrong"], "    ")
            yield f"    → touchpoint logs {process['name']}"


def read_log(home: Home, name: str, *, follow: bool) -> Iterator[str]:
    """The last lines of a process's log, and those to come if asked. Raises UsageError on a name without a log."""
    path = home.logs / f"{name}.log"
    if not path.exists():
        names = ", ".join(sorted(each.stem for each in home.logs.glob("*.log")))
        raise UsageError(f"There is no log of {name!r}; there is {names or 'none yet: run `touchpoint up`'}")
    with path.open(errors="replace") as lines:
        yield from deque(lines, LAST_LINES)
        while follow:
            yield from lines
            time.sleep(LOOK_SECONDS)
