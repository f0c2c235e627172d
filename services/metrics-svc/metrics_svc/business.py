"""The worker's task: the scores of a few tenants as metrics, for who wants them beside the machines' own."""

from datetime import UTC, datetime, timedelta
from itertools import chain

from metrics_svc import service, telemetry
from metrics_svc.measures import Metric
from metrics_svc.schemas import MetricQuery, ScoreItem
from touchpoint.base.explain import explain
from touchpoint.base.telemetry import log
from touchpoint.db.engine import blames_database
from touchpoint.db.tenants import Tenants
from touchpoint.process.service import Runtime

LOOK_SECONDS = 15
DAYS = 30
GAUGES = {Metric.NPS: telemetry.NPS, Metric.CSAT: telemetry.CSAT, Metric.CES: telemetry.CES}


async def run(runtime: Runtime) -> None:
    """Work them out now and then; with no tenant named there is nothing to do."""
    if not runtime.settings.business_tenants:
        await runtime.stop.wait()
    tenants = Tenants(runtime.engine)
    async for _ in runtime.every(LOOK_SECONDS):
        try:
            found = [await measure(tenants, tenant, datetime.now(UTC)) for tenant in runtime.settings.business_tenants]
        except Exception as error:
            if not blames_database(error):
                raise
            log().warning(telemetry.BUSINESS_BACKING_OFF, error=explain(error))
            continue
        for gauge in GAUGES.values():
            gauge.clear()  # a scale that nobody answered on is gone
        for metric, tenant, scale, value in chain.from_iterable(found):
            GAUGES[metric].labels(tenant, scale).set(value)


async def measure(tenants: Tenants, tenant: str, now: datetime) -> list[tuple[Metric, str, str, float]]:
    """One tenant's scores of the last days: metric, tenant, scale and value.

    They go to the end of this hour, for numbers are kept by hour.
    """
    end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    query = MetricQuery(from_=end - timedelta(days=DAYS), to=end)
    return [
        (metric, tenant, item.scale, item.value)
        for metric in GAUGES
        for item in (await service.answer(tenants, tenant, metric, query)).items
        if isinstance(item, ScoreItem) and item.scale is not None and item.value is not None
    ]
