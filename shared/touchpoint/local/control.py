"""Controls a stack from another process: starts it in the background, reads its state and its logs."""

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
    """Run `touchpoint up` in the background and return once it is ready; until then copy its output to `output`.

    Raises UsageError if it ends before it is ready. If this call is cancelled, it stops the stack.
    """
    home.make()
    log = home.logs / f"{SUPERVISOR}.log"
    options = ["--port", str(port), "--brokers", str(brokers), *(["--fresh"] if fresh else [])]
    command = [sys.executable, "-P", "-m", "touchpoint.cli", "up", *options]
    seen = log.stat().st_size if log.exists() else 0
    process = Program(SUPERVISOR, command, {**os.environ, "TOUCHPOINT_DATA": str(home.folder)}, log).start()
    try:
        with log.open() as file:
            file.seek(seen)
            while process.alive() and not _ready(home, process):
                output.write(file.read())
                await asyncio.sleep(LOOK_SECONDS)
            output.write(file.read())
    except asyncio.CancelledError:
        await process.stop()
        raise
    if not process.alive():
        raise UsageError(f"Touchpoint did not start; the reason is its last line above (log: {log})")


def _ready(home: Home, process: Process) -> bool:
    recorded = home.recorded()
    return recorded.get("state") == "ready" and recorded["processes"][SUPERVISOR]["pid"] == process.handle.pid


async def status(home: Home) -> dict[str, Any]:
    """The stack's `state` (ready, not ready, starting, stopping, stopped, abandoned), `port` and `processes`.

    Abandoned: the supervisor was killed and left processes, which `down` and the next `up` stop. A process has `name`,
    `pid`, `restarts`, `wrong` (None, or why it does not work), and, if it is a service, `ready` and `url`.
    """
    recorded, running = home.recorded(), home.processes()
    state = recorded.get("state", "stopped")
    if recorded and SUPERVISOR not in running:
        state = "abandoned" if running else "stopped"
    names = [name for name in recorded.get("processes", {}) if name != SUPERVISOR]
    processes: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "pid": running[name].handle.pid if name in running else None,
            "restarts": recorded["restarts"][name],
            "wrong": None if name in running else "the process does not run",
        }
        for name in names
    }
    services = [service for service in SERVICES if service.name in processes]
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
        answers = await asyncio.gather(*(_not_ready(client, service, recorded["port"]) for service in services))
    for service, why in zip(services, answers, strict=True):
        each = processes[service.name]
        each |= {"ready": why is None, "url": service.url(recorded["port"]), "wrong": each["wrong"] or why}
    if state == "ready" and any(each["wrong"] for each in processes.values()):
        state = "not ready"
    return {"state": state, "port": recorded.get("port"), "processes": list(processes.values())}


async def _not_ready(client: httpx.AsyncClient, service: LocalService, port: int) -> str | None:
    """The first failed check of a service's `/readyz` with its reason; None if the service is ready."""
    try:
        answer = await client.get(f"{service.admin_url(port)}/readyz")
    except httpx.TimeoutException:
        return f"/readyz does not answer within {ANSWER_SECONDS} s"
    except httpx.TransportError:
        return "/readyz does not answer"
    if answer.is_success:
        return None
    checks = {name: why for name, why in answer.json()["checks"].items() if why != "ok"}
    return next((f"{name}: {why}" for name, why in checks.items()), "not ready; /readyz names no failed check")


def lines(stack: dict[str, Any]) -> Iterator[str]:
    """The lines that `touchpoint status` prints: the state, then each process, with the reason if it does not work."""
    yield f"Touchpoint is {stack['state']}."
    for process in stack["processes"]:
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
    """The last lines of a process's log, with `follow` also new lines. Raises UsageError if there is no such log."""
    path = home.logs / f"{name}.log"
    if not path.exists():
        names = ", ".join(sorted(each.stem for each in home.logs.glob("*.log")))
        raise UsageError(f"There is no log of {name!r}; there is {names or 'none yet: run `touchpoint up`'}")
    with path.open(errors="replace") as file:
        yield from deque(file, LAST_LINES)
        while follow:
            yield from file
            time.sleep(LOOK_SECONDS)
