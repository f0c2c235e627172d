"""The worker's task: the scores of a few tenants as metrics, for who wants them beside the machines' own."""

from datetime import UTC, datetime, timedelta
from itertools import chain

from metrics_svc.catalogue.service import Metric
from metrics_svc.queries import service, telemetry
from metrics_svc.queries.schemas import MetricQuery, ScoreItem
from touchpoint.db.tenants import Tenants
from touchpoint.process.recurring import Recurring
from touchpoint.process.service import Runtime

LOOK_SECONDS = 15
DAYS = 30
GAUGES = {Metric.NPS: telemetry.NPS, Metric.CSAT: telemetry.CSAT, Metric.CES: telemetry.CES}


def scores(runtime: Runtime) -> Recurring:
    """Works them out now and then; with no tenant named there is nothing to do."""
    tenants = Tenants(runtime.engine)

    async def measure_all() -> None:
        if not (names := runtime.settings.business_tenants):
            return
        found = [await measure(tenants, tenant, datetime.now(UTC)) for tenant in names]
        for gauge in GAUGES.values():
            gauge.clear()  # a scale that nobody answered on is gone
        for metric, tenant, scale, value in chain.from_iterable(found):
            GAUGES[metric].labels(tenant, scale).set(value)

    return Recurring("measure scores", LOOK_SECONDS, measure_all)


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
