"""A new version replaces the old one process by process under load: no event is lost.

`UPGRADE_FROM`: a checkout of the old version with its environment in `.venv` (`make upgrade FROM=…` creates one).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import escalation_svc.verify
import feedback_svc.verify
import metrics_svc.verify
from tests.faults.load import Load
from touchpoint.db import databases
from touchpoint.kafka import admin
from touchpoint.testing import eventually
from touchpoint.testing.servers import Servers
from touchpoint.testing.system import READS, SERVICES, Part, System
from touchpoint.verify.run import verify

OLD = os.environ.get("UPGRADE_FROM")
RATE = 200

pytestmark = [pytest.mark.faults, pytest.mark.skipif(OLD is None, reason="needs an old version: make upgrade FROM=…")]


class Upgrading(System):
    """A system in which each process has either the old version or this one."""

    async def prepare(self) -> None:
        """Create topics and databases, and migrate them with the old version."""
        await admin.provision(self.kafka, READS)
        for service in SERVICES:
            await databases.create(self.servers.dsn, self.databases[service])
            await self.migrate(service)

    async def migrate(self, service: str) -> None:
        assert await self.run_part((service, "migrate")) == 0, self.logs


@pytest.fixture
async def system(servers: Servers, tmp_path) -> AsyncIterator[Upgrading]:
    made = Upgrading(servers, tmp_path, python=Path(OLD or "") / ".venv" / "bin" / "python")
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_a_new_version_replaces_the_old_one_process_by_process(system):
    load = Load(system.url, await system.create_key("acme", scopes=["events:write"]), 0, RATE)
    sending = asyncio.create_task(load.run())
    await _after_more(load)
    system.python = Path(sys.executable)
    for service in SERVICES:
        await system.migrate(service)
        await _after_more(load)  # the old processes, on the new version's database
    for service, roles in reversed(SERVICES.items()):
        for role in roles:
            await _replace(system, (service, role))
            await _after_more(load)
    load.enough.set()
    await sending
    await eventually(system.is_quiet, 120)
    print(f"\n{len(load.accepted)} accepted, {load.retries} batches sent again")
    for package in (escalation_svc, feedback_svc, metrics_svc):
        subject = package.verify.subject()
        report = await verify(subject, system.dsn(subject.consumer), system.kafka)
        assert not report.findings, (subject.consumer, report.findings)
        assert report.outcomes["applied"] > 0


async def _replace(system: System, part: Part) -> None:
    """Start the new process, then stop the old one; APIs the other way round."""
    service, role = part
    new = part if role == "api" else (service, f"{role}-new")  # APIs share an address
    if new == part:
        await system.stop_part(part)
    system.start_part(new)
    await system.ready([new])
    if new != part:
        await system.stop_part(part)


async def _after_more(load: Load, count: int = 400) -> None:
    """Wait until `count` more events were accepted."""
    goal = len(load.accepted) + count
    await eventually(lambda: len(load.accepted) >= goal, 120)
