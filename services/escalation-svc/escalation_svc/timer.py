"""The worker's timer: looks for clocks to wake until the process stops.

It keeps nothing in memory: killed at any moment, the next look (its own or another worker's) goes on where it was.
"""

from escalation_svc import repository, service, telemetry
from escalation_svc.app import NAME
from escalation_svc.policies import Policies, load
from touchpoint.base.explain import explain
from touchpoint.base.telemetry import log
from touchpoint.db import clock
from touchpoint.db.clock import ClocksDifferError
from touchpoint.db.engine import blames_database, transaction
from touchpoint.db.spans import taping, tell_each
from touchpoint.process.service import Runtime

BATCH = 100
"""Clocks woken in one transaction: few, so that the consumer hardly waits for their locks."""


async def run(runtime: Runtime) -> None:
    """Wake clocks as they fall due and the service's consumer has read so far; look every `timer_seconds`.

    While PostgreSQL's clock and this machine's differ none is woken, and the process says that it is not ready: a
    breach that was published too early cannot be taken back.
    """
    policies = load(runtime.settings.policies_path)
    failed = wrong = ""

    async def check() -> str | None:
        return wrong or None

    runtime.checks["clock"] = check
    async for _ in runtime.every(runtime.settings.timer_seconds):
        try:
            await _look(policies, runtime)
            failed = wrong = ""
        except ClocksDifferError as error:
            if not wrong:
                log().error(telemetry.TIMER_CLOCKS_DIFFER, error=str(error))
            wrong = f"{error}; no warning and no breach is published until they agree"
        except Exception as error:
            if not blames_database(error):
                raise
            telemetry.TIMER_RETRIES.inc()
            if failed != (failed := explain(error)):  # once for each cause, not at every look
                log().warning(telemetry.TIMER_BACKING_OFF, error=failed)


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
        telemetry.CLOCKS_OVERDUE.set(await repository.count_overdue(session, NAME))
