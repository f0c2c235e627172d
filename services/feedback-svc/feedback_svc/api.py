"""The API of feedback-svc. Other systems reach it through the gateway, under the same paths."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from feedback_svc import repository
from feedback_svc.errors import FeedbackNotFoundError
from feedback_svc.schemas import FeedbackQuery, FeedbackRead, TimelineEntryRead, TimelineQuery
from touchpoint.contracts.base import Identifier
from touchpoint.http.deps import Rows
from touchpoint.http.errors import Problem
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.pagination import Page, page
from touchpoint.http.scopes import Scope

router = APIRouter(prefix="/v1")

FeedbackReader = Annotated[Caller, Depends(allowed(Scope.FEEDBACK_READ))]
CustomersReader = Annotated[Caller, Depends(allowed(Scope.CUSTOMERS_READ))]


@router.get("/feedback", tags=["feedback"], response_model=Page[FeedbackRead])
async def list_feedback(caller: FeedbackReader, rows: Rows, query: Annotated[FeedbackQuery, Query()]) -> Response:
    """Feedback that matches all filters, newest first."""
    found = await repository.list_feedback(rows, caller.tenant, query)
    return page(found, query.limit, repository.ORDER, text="text")


@router.get("/feedback/{feedback_id}", tags=["feedback"], responses={404: {"model": Problem}})
async def get_feedback(caller: FeedbackReader, rows: Rows, feedback_id: UUID) -> FeedbackRead:
    """One piece of feedback."""
    found = await repository.find_feedback(rows, caller.tenant, feedback_id)
    if found is None:
        raise FeedbackNotFoundError(feedback_id)
    return found


# `:path`, because another system's customer id may have a slash in it.
@router.get("/customers/{customer_id:path}/timeline", tags=["customers"], response_model=Page[TimelineEntryRead])
async def get_timeline(
    caller: CustomersReader,
    rows: Rows,
    customer_id: Annotated[Identifier, Path()],
    query: Annotated[TimelineQuery, Query()],
) -> Response:
    """Everything that happened with a customer, newest first.

    A customer nothing is known of has an empty timeline, not a 404: customers are not created here, they appear with
    their first touchpoint, and until then the system that knows them shows nothing.
    """
    found = await repository.list_timeline(rows, caller.tenant, customer_id, query)
    return page(found, query.limit, repository.ORDER)
