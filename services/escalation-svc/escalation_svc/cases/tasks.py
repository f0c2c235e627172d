"""The worker's tasks: the timer that fires due clocks, and a gauge of the open cases of the configured tenants.

The timer keeps no state in memory. If it is killed, its next run, or that of another worker, finds the clocks that are
still due.
"""

from escalation_svc.cases import repository, service, telemetry
from escalation_svc.clocks import service as clocks
from escalation_svc.config import NAME
from escalation_svc.policies.service import Policies, load
from touchpoint.db import clock
from touchpoint.db.clock import ClocksDifferError
from touchpoint.db.engine import transaction
from touchpoint.db.spans import taping, tell_each
from touchpoint.process.recurring import Recurring
from touchpoint.process.service import Runtime

BATCH = 100
"""Clocks fired per transaction. The number is small so that the consumer waits only briefly for their locks."""
COUNT_SECONDS = 15


def timer(runtime: Runtime) -> Recurring:
    """Every `timer_seconds`, fires the clocks that are due and up to whose due time the consumer has read the log.

    While PostgreSQL's clock and this machine's differ, no clock fires and the process reports that it is not ready: a
    breach that was published too early cannot be revoked. Raises UsageError if the policy file is missing or invalid.
    """
    policies = load(runtime.settings.policies_path)
    wrong = ""

    async def check() -> str | None:
        return wrong or None

    async def fire() -> None:
        nonlocal wrong
        try:
            await _fire_due(policies, runtime)
            wrong = ""
        except ClocksDifferError as error:
            wrong = f"{error}; no SLA warnings or breaches are published until the clocks agree"
            raise

    runtime.checks["clock"] = check
    return Recurring("timer", runtime.settings.timer_seconds, fire)


def open_cases(runtime: Runtime) -> Recurring:
    """Every `COUNT_SECONDS`, counts the unresolved cases of the tenants in BUSINESS_TENANTS, if there are any."""

    async def count() -> None:
        if not runtime.settings.business_tenants:
            return
        async with transaction(runtime.sessions) as session:
            counts = await repository.count_open(session, runtime.settings.business_tenants)
        telemetry.OPEN_CASES.clear()  # removes the gauges of reasons that have no open case left
        for tenant, reason, cases in counts:
            telemetry.OPEN_CASES.labels(tenant, reason).set(cases)

    return Recurring("count open cases", COUNT_SECONDS, count)


async def _fire_due(policies: Policies, runtime: Runtime) -> None:
    woken = BATCH
    while woken == BATCH and not runtime.stop.is_set():
        with taping() as tape:
            async with transaction(runtime.sessions) as session:
                await clock.require_agreement(session)
                due = await service.pass_time(session, policies, NAME, BATCH)
        tell_each(tape, "wake clock", [each.cause.traceparent if each.cause else None for each in due])
        woken = len(due)
    async with transaction(runtime.sessions) as session:
        await clocks.measure_overdue(session, NAME)
