"""All databases are restored from backups of different times: consumers apply the missing events from the log."""

import asyncio
import os
from functools import partial
from pathlib import Path

import asyncpg
import pytest

import escalation_svc.verify
import feedback_svc.verify
import metrics_svc.verify
from tests.faults.backup import back_up, restore
from tests.faults.load import Load
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.testing import eventually
from touchpoint.testing.system import READS, SERVICES, System
from touchpoint.verify.run import verify

EVENTS = int(os.environ.get("FAULT_RESTORE_EVENTS", "2000"))
RATE = 1000

pytestmark = [pytest.mark.faults, pytest.mark.servers]


async def test_databases_restored_from_backups_of_different_times_catch_up(system, tmp_path):
    load = Load(system.url, await system.create_key("acme"), EVENTS, RATE)
    sending = asyncio.create_task(load.run())
    backups: dict[str, Path] = {}
    read = 0
    for service in SERVICES:
        await _goes_on(load)
        if service in READS:
            await eventually(partial(_reads_on, system, service, read), 120)
        backups[service] = await back_up(system.dsn(service), tmp_path / f"{service}.dump")
        if service in READS:
            read = await _read(system, service)
    await _goes_on(load)
    load.enough.set()
    await sending
    await eventually(system.is_quiet, 120)

    await system.terminate()
    for service, backup in backups.items():
        await restore(system, service, backup)
    behind = {service: len(load.accepted) - await _read(system, service) for service in READS}
    for service, roles in SERVICES.items():
        for role in roles:
            system.start_part((service, role))
    await eventually(system.is_quiet, 120)

    print(f"\n{len(load.accepted)} accepted; events each consumer was behind after the restore: {behind}")
    assert len(set(behind.values())) == len(READS)
    assert min(behind.values()) > 0
    for package in (escalation_svc, feedback_svc, metrics_svc):
        subject = package.verify.subject()
        report = await verify(subject, system.dsn(subject.consumer), system.kafka)
        assert not report.findings, (subject.consumer, report.findings)
        assert await _read(system, subject.consumer) == len(load.accepted)


async def _goes_on(load: Load) -> None:
    """Wait until a fifth of `EVENTS` more events are accepted."""
    seen = len(load.accepted)
    await eventually(lambda: len(load.accepted) >= seen + EVENTS / 5, 120)


async def _reads_on(system: System, service: str, other: int) -> bool:
    """Whether a consumer has read more than `other` events."""
    return await _read(system, service) > other


async def _read(system: System, service: str) -> int:
    """The number of the gateway's events that a consumer has read."""
    connection = await asyncpg.connect(system.dsn(service))
    try:
        query = "SELECT coalesce(sum(next), 0)::int FROM offsets WHERE topic = $1"
        return await connection.fetchval(query, TOUCHPOINTS)
    finally:
        await connection.close()
