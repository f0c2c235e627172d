"""The API of timelines. Other systems reach it through the gateway, under the same path."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from feedback_svc.timeline.models import NEWEST_FIRST
from feedback_svc.timeline.schemas import TimelineEntryRead, TimelineQuery, entry_read
from touchpoint.contracts.base import Identifier
from touchpoint.http.deps import Rows
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.pagination import Page, page
from touchpoint.http.scopes import Scope

router = APIRouter(prefix="/v1")

CustomersReader = Annotated[Caller, Depends(allowed(Scope.CUSTOMERS_READ))]


# `:path`, because customer ids of other systems may contain slashes.
@router.get("/customers/{customer_id:path}/timeline", tags=["customers"], response_model=Page[TimelineEntryRead])
async def get_timeline(
    caller: CustomersReader,
    rows: Rows,
    customer_id: Annotated[Identifier, Path()],
    query: Annotated[TimelineQuery, Query()],
) -> Response:
    """All touchpoints of a customer, newest first.

    An unknown customer has an empty timeline, not a 404: customers are not created here, a customer exists from its
    first touchpoint on.
    """
    selection = query.selection().where(customer_id=customer_id)
    matching = await NEWEST_FIRST.read(rows, caller.tenant, selection)
    return page(matching, query.limit, NEWEST_FIRST.order, entry_read)
