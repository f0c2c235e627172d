"""The worker's task: exports the scores of the tenants in BUSINESS_TENANTS as Prometheus gauges."""

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
    """Every `LOOK_SECONDS`, sets the gauges for the tenants in BUSINESS_TENANTS, if there are any."""
    tenants = Tenants(runtime.engine)

    async def measure_all() -> None:
        if not (names := runtime.settings.business_tenants):
            return
        measured = [await measure(tenants, tenant, datetime.now(UTC)) for tenant in names]
        for gauge in GAUGES.values():
            gauge.clear()  # removes the gauges of scales without answers
        for metric, tenant, scale, value in chain.from_iterable(measured):
            GAUGES[metric].labels(tenant, scale).set(value)

    return Recurring("measure scores", LOOK_SECONDS, measure_all)


async def measure(tenants: Tenants, tenant: str, now: datetime) -> list[tuple[Metric, str, str, float]]:
    """One tenant's scores of the last days: metric, tenant, scale and value.

    The range ends at the end of the current hour.
    """
    end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    query = MetricQuery(from_=end - timedelta(days=DAYS), to=end)
    return [
        (metric, tenant, item.scale, item.value)
        for metric in GAUGES
        for item in (await service.answer(tenants, tenant, metric, query)).items
        if isinstance(item, ScoreItem) and item.scale is not None and item.value is not None
    ]
