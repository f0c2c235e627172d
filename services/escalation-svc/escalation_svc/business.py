"""The worker's task: the open cases of a few tenants as metrics, for who wants them beside the machines' own."""

from escalation_svc import repository, telemetry
from touchpoint.base.explain import explain
from touchpoint.base.telemetry import log
from touchpoint.db.engine import blames_database, transaction
from touchpoint.process.service import Runtime

LOOK_SECONDS = 15


async def run(runtime: Runtime) -> None:
    """Count them now and then; with no tenant named there is nothing to do."""
    if not runtime.settings.business_tenants:
        await runtime.stop.wait()
    async for _ in runtime.every(LOOK_SECONDS):
        try:
            async with transaction(runtime.sessions) as session:
                found = await repository.count_open(session, runtime.settings.business_tenants)
        except Exception as error:
            if not blames_database(error):
                raise
            log().warning(telemetry.BUSINESS_BACKING_OFF, error=explain(error))
            continue
        telemetry.OPEN_CASES.clear()  # a reason without a case is gone
        for tenant, reason, cases in found:
            telemetry.OPEN_CASES.labels(tenant, reason).set(cases)
