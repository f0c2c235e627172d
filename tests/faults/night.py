"""Production failures and their detection: each breakage injects a failure, waits for its detection, and repairs it."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from touchpoint.operators.doctor import command as doctor
from touchpoint.testing import eventually
from touchpoint.testing.system import READS

from .faults import Stage
from .load import Load

LOOK_SECONDS = 0.5
WATCHED_SECONDS = 30
"""How long the doctor's answer may be away before the next one is asked all the same."""
REASON = "the night's trial"


@dataclass
class Night:
    """A system under a small load, and what was noticed since the damage was done."""

    stage: Stage
    load: Load
    policies: Path
    """escalation-svc's policy file."""
    noticed: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By whom (readiness, doctor, clients, log), after how many seconds, and how it was shown."""
    recovered_by: str = ""
    struck: float | None = None
    leaving: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Restores to run after the checks."""

    def begin(self) -> None:
        """Forget the breakage before."""
        self.noticed, self.recovered_by, self.struck = {}, "", None

    def strike(self) -> None:
        """The damage is done now: what is seen from here on counts."""
        self.struck = time.monotonic()

    def notice(self, by: str, shown: str) -> None:
        """Somebody has seen that something is wrong."""
        if self.struck is not None:
            self.noticed.setdefault(by, (time.monotonic() - self.struck, shown))

    async def is_noticed(self, *by: str, seconds: float = 120) -> None:
        """Wait until all of these have noticed."""
        await eventually(lambda: all(each in self.noticed for each in by), seconds)

    async def is_well(self) -> None:
        """Wait until the doctor finds nothing wrong: after a restart that is not the breakage itself."""

        async def well() -> bool:
            reports = [await doctor.examine(self.stage.system.dsn(service)) for service in READS]
            return not any(finding.wrong for each in reports for finding in each)

        await eventually(well, 120)

    async def is_halted(self, service: str) -> None:
        """Wait until a service's consumer has halted; the doctor is asked meanwhile."""
        await eventually(lambda: self._count(service, "consumers WHERE state = 'halted'"), 120)

    def mended(self, how: str) -> None:
        """The cause is gone; the system is to recover from now on."""
        self.recovered_by = how
        self.stage.strike()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Have readiness, the doctor and the load's clients looked at, again and again."""
        watching = [asyncio.create_task(look) for look in (self._watch_readiness(), self._watch_doctor())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _watch_readiness(self) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                retries = self.load.retries
                for (service, _), url in self.stage.system.admin_urls.items():
                    if reason := await _why_not_ready(client, url):
                        self.notice("readiness", f"{service} {reason}")
                    for task in await _failing_tasks(client, url):
                        self.notice("metrics", f"{service}: the task {task} fails")
                await asyncio.sleep(LOOK_SECONDS)
                if self.load.retries > retries:
                    self.notice("clients", "503, or no answer: sent again")

    async def _watch_doctor(self) -> None:
        while True:
            for service in READS:
                try:
                    async with asyncio.timeout(WATCHED_SECONDS):
                        findings = await doctor.examine(self.stage.system.dsn(service))
                except TimeoutError:
                    continue
                except Exception as error:  # a traceback is a finding as well, of the doctor itself
                    self.notice("doctor's traceback", repr(error))
                    continue
                for finding in findings:
                    if finding.wrong:
                        self.notice("doctor", f"{finding.where}: {finding.text}")
            await asyncio.sleep(LOOK_SECONDS)

    async def resume_halted(self) -> str:
        """Let consumers that halted go on, as the runbook says; answers what was done."""
        halted = [service for service in READS if await self._count(service, "consumers WHERE state = 'halted'")]
        for service in halted:
            await self.operate(service, "consumer", "resume", service, "--reason", REASON)
        return ", ".join(f"`consumer resume {service}`" for service in halted)

    async def redrive(self) -> str:
        """Have dead letters tried again; answers what was done."""
        done = []
        for service in READS:
            if letters := await self._count(service, "dead_letters WHERE state = 'open'"):
                await self.operate(service, "dlq", "redrive", "--execute", "--reason", REASON)
                done.append(f"`dlq redrive` of {letters} at {service}")
        return ", ".join(done)

    async def _count(self, service: str, rows: str) -> int:
        async with self.stage.connected(self.stage.system.databases[service]) as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {rows}"))

    async def operate(self, service: str, *arguments: str) -> str:
        """Run an operator's command."""
        return await self.stage.system.operate(service, *arguments)


async def _why_not_ready(client: httpx.AsyncClient, url: str) -> str | None:
    try:
        answer = await client.get(f"{url}/readyz")
    except httpx.TransportError:
        return "does not answer"
    if answer.is_success:
        return None
    return next(f"{name}: {reason}" for name, reason in answer.json()["checks"].items() if reason != "ok")


async def _failing_tasks(client: httpx.AsyncClient, url: str) -> list[str]:
    try:
        answer = await client.get(f"{url}/metrics")
    except httpx.TransportError:
        return []
    return re.findall(r'^touchpoint_task_failing{task="([^"]+)"} 1.0$', answer.text, re.MULTILINE)


@dataclass(frozen=True)
class Breakage:
    """`quick`: short enough for every test run."""

    name: str
    happen: Callable[[Night], Awaitable[None]]
    quick: bool = False
    needs_root: bool = False
    loses: bool = False
    """Kafka itself loses records by it."""


def seconds(long: float, short: float) -> float:
    """How long something is kept broken: whole in `make night`, short in every test run."""
    return long if os.environ.get("FAULT_NIGHT") else short
