"""The worker's tasks: the timer that wakes clocks as they fall due, and the open cases of a few tenants as metrics.

The timer keeps nothing in memory: killed at any moment, the next look (its own or another worker's) goes on where it
was.
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
"""Clocks woken in one transaction: few, so that the consumer hardly waits for their locks."""
COUNT_SECONDS = 15


def timer(runtime: Runtime) -> Recurring:
    """Wakes clocks as they fall due and the service's consumer has read so far; looks every `timer_seconds`.

    While PostgreSQL's clock and this machine's differ none is woken, and the process says that it is not ready: a
    breach that was published too early cannot be taken back. Raises UsageError on a policy file that cannot work.
    """
    policies = load(runtime.settings.policies_path)
    wrong = ""

    async def check() -> str | None:
        return wrong or None

    async def look() -> None:
        nonlocal wrong
        try:
            await _look(policies, runtime)
            wrong = ""
        except ClocksDifferError as error:
            wrong = f"{error}; no warning and no breach is published until they agree"
            raise

    runtime.checks["clock"] = check
    return Recurring("timer", runtime.settings.timer_seconds, look)


def open_cases(runtime: Runtime) -> Recurring:
    """Counts them now and then; with no tenant named there is nothing to do."""

    async def count() -> None:
        if not runtime.settings.business_tenants:
            return
        async with transaction(runtime.sessions) as session:
            found = await repository.count_open(session, runtime.settings.business_tenants)
        telemetry.OPEN_CASES.clear()  # a reason without a case is gone
        for tenant, reason, cases in found:
            telemetry.OPEN_CASES.labels(tenant, reason).set(cases)

    return Recurring("count open cases", COUNT_SECONDS, count)


async def _look(policies: Policies, runtime: Runtime) -> None:
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
