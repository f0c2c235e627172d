"""The API of feedback-svc. Other systems reach it through the gateway, under the same paths."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from feedback_svc import repository
from feedback_svc.errors import FeedbackNotFoundError
from feedback_svc.schemas import FeedbackQuery, FeedbackRead, TimelineEntryRead, TimelineQuery
from touchpoint.contracts.base import Identifier
from touchpoint.http.deps import ReadOnly
from touchpoint.http.errors import Problem
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.pagination import Page, page
from touchpoint.http.scopes import Scope

router = APIRouter(prefix="/v1")

FeedbackReader = Annotated[Caller, Depends(allowed(Scope.FEEDBACK_READ))]
CustomersReader = Annotated[Caller, Depends(allowed(Scope.CUSTOMERS_READ))]


@router.get("/feedback", tags=["feedback"])
async def list_feedback(
    caller: FeedbackReader, session: ReadOnly, query: Annotated[FeedbackQuery, Query()]
) -> Page[FeedbackRead]:
    """Feedback that matches all filters, newest first."""
    rows = await repository.list_feedback(session, caller.tenant, query)
    return page([FeedbackRead.of(row) for row in rows], query.limit, repository.ORDER, text="text")


@router.get("/feedback/{feedback_id}", tags=["feedback"], responses={404: {"model": Problem}})
async def get_feedback(caller: FeedbackReader, session: ReadOnly, feedback_id: UUID) -> FeedbackRead:
    """One piece of feedback."""
    row = await repository.find_feedback(session, caller.tenant, feedback_id)
    if row is None:
        raise FeedbackNotFoundError(feedback_id)
    return FeedbackRead.of(row)


# `:path`, because another system's customer id may have a slash in it.
@router.get("/customers/{customer_id:path}/timeline", tags=["customers"])
async def get_timeline(
    caller: CustomersReader,
    session: ReadOnly,
    customer_id: Annotated[Identifier, Path()],
    query: Annotated[TimelineQuery, Query()],
) -> Page[TimelineEntryRead]:
    """Everything that happened with a customer, newest first.

    A customer nothing is known of has an empty timeline, not a 404: customers are not created here, they appear with
    their first touchpoint, and until then the system that knows them shows nothing.
    """
    rows = await repository.list_timeline(session, caller.tenant, customer_id, query)
    return page([TimelineEntryRead.model_validate(row) for row in rows], query.limit, repository.ORDER)
