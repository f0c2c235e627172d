"""The worker's task: the open cases of a few tenants as metrics, for who wants them beside the machines' own."""

from escalation_svc import repository, telemetry
from touchpoint.db.engine import transaction
from touchpoint.process.recurring import Recurring
from touchpoint.process.service import Runtime

LOOK_SECONDS = 15


def task(runtime: Runtime) -> Recurring:
    """Counts them now and then; with no tenant named there is nothing to do."""

    async def count() -> None:
        if not runtime.settings.business_tenants:
            return
        async with transaction(runtime.sessions) as session:
            found = await repository.count_open(session, runtime.settings.business_tenants)
        telemetry.OPEN_CASES.clear()  # a reason without a case is gone
        for tenant, reason, cases in found:
            telemetry.OPEN_CASES.labels(tenant, reason).set(cases)

    return Recurring("count open cases", LOOK_SECONDS, count)
