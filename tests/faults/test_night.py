"""Production failures one by one: which check detects each, after how long, its message, the recovery and the loss.

`make night` runs all breakages and prints a table; other test runs include only the quick ones, shortened.
"""

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Iterable
from importlib.resources import files
from typing import Any

import asyncpg
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.servers import Servers, own_kafka, own_postgres, reached
from touchpoint.testing.system import TOGETHER, System
from touchpoint.verify.report import Fault as Finding
from touchpoint.verify.report import Report

from .breakages import BREAKAGES
from .checks import TENANT, not_in_the_log, recovered, verified
from .faults import USER, Stage
from .load import Load
from .night import Breakage, Night

LONG = "FAULT_NIGHT" in os.environ
RATE = 20
"""Events per second: a small load."""
SHOWN = ("doctor's traceback", "verify", "log", "doctor", "readiness", "metrics")
"""The detectors by priority: the table shows the message of the first one that noticed the breakage."""
PAUSE_SECONDS = 2
"""Seconds between two checks for processes to restart, as by a supervisor."""

pytestmark = [pytest.mark.faults, pytest.mark.servers]


@pytest.fixture(scope="module")
async def night(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Night]:
    """A system under load, one process per service, on servers of its own, for all breakages in turn."""
    folder = tmp_path_factory.mktemp("night")
    policies = folder / "policies.yaml"
    policies.write_text((files("escalation_svc.policies") / "policies.yaml").read_text())
    async with own_kafka() as broker, own_postgres() as postgres:
        dsn = postgres.server.address
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE ROLE {USER} LOGIN CREATEDB CREATEROLE")
        await connection.close()
        servers = Servers(reached([broker]), dsn.replace("postgres@", f"{USER}@"))
        system = System(servers, folder, {"POLICIES_PATH": str(policies)}, roles=TOGETHER)
        try:
            await system.start()
            stage = Stage(system, [broker], postgres, await system.create_key(TENANT), random.Random())
            night = Night(stage, Load(system.url, stage.key, 0, RATE), policies)
            sending, keeping = asyncio.create_task(night.load.run()), asyncio.create_task(keep(system))
            async with night.leaving:
                yield night
                keeping.cancel()
                sending.cancel()
                await asyncio.gather(keeping, sending, return_exceptions=True)
        finally:
            await system.terminate()


def params() -> list[Any]:
    """All breakages; the long ones are skipped except in `make night`."""
    return [
        pytest.param(each, id=each.name, marks=[] if LONG or each.quick else [pytest.mark.skip("for `make night`")])
        for each in BREAKAGES
    ]


@pytest.mark.parametrize("breakage", params())
async def test_a_breakage_is_detected_and_repaired_without_loss(
    night: Night, breakage: Breakage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if breakage.needs_root and os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    system = night.stage.system
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", system.kafka.bootstrap_servers)  # for the doctor
    monkeypatch.setenv("KAFKA_TOPIC_PREFIX", system.kafka.topic_prefix)
    monkeypatch.setenv("KAFKA_PARTITIONS", str(system.kafka.partitions))
    before = set(night.load.accepted)
    night.begin()
    await eventually(lambda: len(night.load.accepted) >= len(before) + 100, 120)
    async with night.watched():
        await breakage.happen(night)
    resumed = await night.resume_halted()
    after = await recovered(night.stage)
    by_hand = "; ".join(filter(None, [resumed, await night.redrive()]))
    await eventually(lambda: night.load.in_flight == 0 and len(night.load.accepted), 60)
    accepted = night.load.accepted - before
    reports = await verified(night.stage)
    missing = await not_in_the_log(system, accepted)
    lost = len(missing) + count(reports, Finding.MISSING, Finding.UNPUBLISHED)
    # Rows of records that Kafka has lost are UNEXPLAINED or CHANGED for verify: they are no duplicates.
    doubles = [Finding.TWICE] if breakage.loses else [Finding.TWICE, Finding.UNEXPLAINED, Finding.CHANGED]
    doubled = count(reports, *doubles)
    print("\n" + row(night, breakage, by_hand, after, len(accepted), lost, doubled), flush=True)
    if not breakage.loses:
        assert [finding for report in reports for finding in report.findings] == []
        assert missing == set()


def count(reports: Iterable[Report], *kinds: Finding) -> int:
    """The number of findings of these kinds in all reports."""
    return sum(report.count(kind) for report in reports for kind in kinds)


async def keep(system: System) -> None:
    """Restart processes that end by themselves, as a supervisor does."""
    while True:
        system.start_ended()
        await asyncio.sleep(PAUSE_SECONDS)


def row(night: Night, breakage: Breakage, by_hand: str, after: float, accepted: int, lost: int, doubled: int) -> str:
    """A line of the table in docs/reliability.md."""
    noticed = "; ".join(f"{by} {seconds:.1f} s" for by, (seconds, _) in night.noticed.items())
    shown = [night.noticed[by][1] for by in SHOWN if by in night.noticed]
    how = "; ".join(filter(None, [night.recovered_by, by_hand, f"works again after {after:.1f} s"]))
    message = shown[0] if shown else ""
    message = re.sub(r"postgresql://\S+: |system[_-][0-9a-f]{12}[_.]", "", message)  # names that change with each run
    cells = (breakage.name, noticed, message, how, accepted, lost, doubled)
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"
