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
"""Seconds after which a run of the doctor is cancelled and the next one begins."""
REASON = "the night's trial"


@dataclass
class Night:
    """A system under a small load, and the signs of the current breakage that were noticed."""

    stage: Stage
    load: Load
    policies: Path
    """escalation-svc's policy file."""
    noticed: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By detector (readiness, doctor, clients, log): the seconds until it noticed the breakage, and its message."""
    recovered_by: str = ""
    struck: float | None = None
    leaving: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Callbacks that restore the servers after all breakages."""

    def begin(self) -> None:
        """Reset the results of the previous breakage."""
        self.noticed, self.recovered_by, self.struck = {}, "", None

    def strike(self) -> None:
        """Count what is noticed from now on: the failure has just been injected."""
        self.struck = time.monotonic()

    def notice(self, by: str, shown: str) -> None:
        """Record the first message of a detector."""
        if self.struck is not None:
            self.noticed.setdefault(by, (time.monotonic() - self.struck, shown))

    async def is_noticed(self, *by: str, seconds: float = 120) -> None:
        """Wait until all of these detectors have noticed the breakage."""
        await eventually(lambda: all(each in self.noticed for each in by), seconds)

    async def is_well(self) -> None:
        """Wait until the doctor finds nothing wrong, after a restart that only prepares the breakage."""

        async def well() -> bool:
            reports = [await doctor.examine(self.stage.system.dsn(service)) for service in READS]
            return not any(finding.wrong for each in reports for finding in each)

        await eventually(well, 120)

    async def is_halted(self, service: str) -> None:
        """Wait until a service's consumer has halted."""
        await eventually(lambda: self._count(service, "consumers WHERE state = 'halted'"), 120)

    def mended(self, how: str) -> None:
        """Measure the recovery from now on: the cause has been removed."""
        self.recovered_by = how
        self.stage.strike()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Poll readiness, metrics, the doctor and the load's clients during the block."""
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
                except Exception as error:  # a traceback of the doctor is also a finding
                    self.notice("doctor's traceback", repr(error))
                    continue
                for finding in findings:
                    if finding.wrong:
                        self.notice("doctor", f"{finding.where}: {finding.text}")
            await asyncio.sleep(LOOK_SECONDS)

    async def resume_halted(self) -> str:
        """Resume halted consumers, as the runbook says; returns the commands for the report."""
        halted = [service for service in READS if await self._count(service, "consumers WHERE state = 'halted'")]
        for service in halted:
            await self.operate(service, "consumer", "resume", service, "--reason", REASON)
        return ", ".join(f"`consumer resume {service}`" for service in halted)

    async def redrive(self) -> str:
        """Redrive open dead letters; returns the commands for the report."""
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
    """A breakage; `quick` ones run in every test run."""

    name: str
    happen: Callable[[Night], Awaitable[None]]
    quick: bool = False
    needs_root: bool = False
    loses: bool = False
    """Whether Kafka itself loses records."""


def seconds(long: float, short: float) -> float:
    """The duration of a breakage: `long` in `make night`, `short` in other test runs."""
    return long if os.environ.get("FAULT_NIGHT") else short
