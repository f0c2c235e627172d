"""The HTTP API of metrics-svc."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from metrics_svc.catalogue.service import Metric
from metrics_svc.queries import service
from metrics_svc.queries.schemas import MetricAnswer, MetricQuery
from touchpoint.http.deps import Rows
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.scopes import Scope

router = APIRouter(tags=["metrics"])


@router.get("/v1/metrics/{metric}", response_model=MetricAnswer)
async def read_metric(
    metric: Metric,
    query: Annotated[MetricQuery, Query()],
    caller: Annotated[Caller, Depends(allowed(Scope.METRICS_READ))],
    rows: Rows,
) -> MetricAnswer:
    """A metric by period and group, each with n, its numerator, and a 95 % interval; null where nothing was measured.

    Segment and tier are the customer's when the answer was given or the ticket opened, by `customer.updated` events.
    First response: from the ticket's opening to the first public reply of a human agent. Resolution: to the first time
    it was resolved or closed. Both are counted once per ticket, at the time they ended.
    """
    return await service.answer(rows, caller.tenant, metric, query)
