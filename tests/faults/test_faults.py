"""Every accepted event is applied exactly once by every consumer, whatever faults occur.

`FAULT_SHARE` is the share of a whole run's faults (`make faults`: 1); without it only the smoke faults of every test
run are injected. `FAULT_EVENTS`: the minimum number of events. `FAULT_BROKERS`: 1, or 3, of which one at a time is
killed. `FAULT_SEED`: the seed for the order of faults and the choice of victims.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import asyncpg
import pytest
from rich.console import Console
from rich.table import Table

from touchpoint.testing import eventually
from touchpoint.testing.servers import SOON_BACK, Servers, own_brokers, own_postgres, reached
from touchpoint.testing.system import System
from touchpoint.verify.report import Fault as Finding
from touchpoint.verify.report import Report

from .checks import TENANT, not_in_the_log, recovered, verified
from .faults import FAULTS, OF_KAFKA, USER, Fault, Stage
from .load import Load

SHARE = float(os.environ.get("FAULT_SHARE", "0"))
EVENTS = int(os.environ.get("FAULT_EVENTS", "3000"))
SEED = int(os.environ.get("FAULT_SEED", "5"))
RATE = float(os.environ.get("FAULT_RATE", "200"))
"""Events per second, at most as many as the gateway accepts."""
BROKERS = int(os.environ.get("FAULT_BROKERS", "1"))

pytestmark = [pytest.mark.faults, pytest.mark.servers]


@dataclass
class Outcome:
    """The results of one kind of fault, summed over its repetitions."""

    name: str
    recoveries: list[float] = field(default_factory=list)
    """Seconds from each fault's damage until every consumer has applied an event sent after it."""
    accepted: set[str] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)
    lost: int = 0
    """The number of accepted events that are not in the log."""

    def count(self, *kinds: Finding) -> int:
        return sum(report.count(kind) for report in self.reports for kind in kinds)

    def row(self) -> list[str]:
        lost = self.lost + self.count(Finding.MISSING, Finding.UNPUBLISHED)
        doubled = self.count(Finding.TWICE, Finding.UNEXPLAINED, Finding.CHANGED)
        counts = (len(self.recoveries), len(self.accepted), lost, doubled, self.count(Finding.OUT_OF_ORDER))
        times = [f"{median(self.recoveries):.1f}", f"{max(self.recoveries):.1f}"] if self.recoveries else ["", ""]
        return [self.name, *(f"{each:,}" for each in counts), *times]


@pytest.fixture
async def stage(tmp_path) -> AsyncIterator[Stage]:
    """A whole system on servers of its own."""
    settings = () if SHARE else SOON_BACK
    async with own_brokers(BROKERS, settings) as brokers, own_postgres() as postgres:
        dsn = postgres.server.address
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE ROLE {USER} LOGIN CREATEDB CREATEROLE")
        await connection.close()
        system = System(Servers(reached(brokers), dsn.replace("postgres@", f"{USER}@")), tmp_path)
        try:
            await system.start()
            yield Stage(system, brokers, postgres, await system.create_key(TENANT), random.Random(SEED))
        finally:
            await system.terminate()  # its topics and databases are deleted with the servers


async def test_every_accepted_event_is_applied_once_and_in_order_despite_faults(stage):
    load = Load(stage.system.url, stage.key, EVENTS, RATE, SEED)
    faults = [(fault, round(fault.times * SHARE) or fault.smoke) for fault in (*FAULTS, *OF_KAFKA[BROKERS])]
    if SHARE:
        stage.chance.shuffle(faults)
    async with _loading(load), _supervised(stage.system) as restarts:
        outcomes = [await _suffer(stage, load, fault, times) for fault, times in faults if times]
        if SHARE:
            outcomes.append(Outcome("while more comes in", reports=await verified(stage)))
        load.enough.set()
    await eventually(stage.system.is_quiet, 600)
    whole = Outcome("all, in the end", accepted=set(load.accepted), reports=await verified(stage))
    missing = await not_in_the_log(stage.system, whole.accepted)
    for outcome in [*outcomes, whole]:
        outcome.lost = len(outcome.accepted & missing)
    _print([*outcomes, whole], load, restarts)
    for outcome in [*outcomes, whole]:
        assert outcome.lost == 0, outcome.name
        assert [finding for report in outcome.reports for finding in report.findings] == [], outcome.name
    assert [report.pending for report in whole.reports] == [0, 0, 0]


async def _suffer(stage: Stage, load: Load, fault: Fault, times: int) -> Outcome:
    """Inject a fault repeatedly under load, then verify the events received since, while more arrive."""
    outcome, began, before = Outcome(fault.name), datetime.now(UTC), set(load.accepted)
    for _ in range(times):
        await eventually(lambda: load.in_flight, 60)
        async with fault.happen(stage):
            outcome.recoveries.append(await recovered(stage))
    outcome.accepted = load.accepted - before
    if SHARE:
        outcome.reports = await verified(stage, since=began)
    print(fault.name, *(f"{each:.1f} s" for each in outcome.recoveries), flush=True)
    return outcome


@asynccontextmanager
async def _loading(load: Load) -> AsyncIterator[None]:
    """Send events during the block; at its end wait until all sent events are accepted."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        yield


@asynccontextmanager
async def _supervised(system: System) -> AsyncIterator[list[Any]]:
    """Restart processes that end by themselves during the block; yields the list of restarts."""
    restarts: list[Any] = []

    async def keep() -> None:
        while True:
            restarts.extend(system.start_ended())
            await asyncio.sleep(0.2)

    keeping = asyncio.create_task(keep())
    try:
        yield restarts
    finally:
        keeping.cancel()


def _print(outcomes: list[Outcome], load: Load, restarts: list[Any]) -> None:
    table = Table("fault", "times", "accepted", "lost", "doubled or changed", "out of order", "recovery s", "worst s")
    for outcome in outcomes:
        table.add_row(*outcome.row())
    console = Console(width=130)
    console.print(table)
    again = {report.consumer: report.outcomes["duplicate"] for report in outcomes[-1].reports}
    console.print(
        f"{load.retries} batches sent again, {again['metrics-svc']:,} events more than once in the log, "
        f"{len(restarts)} processes that ended by themselves; seed {SEED}"
    )
