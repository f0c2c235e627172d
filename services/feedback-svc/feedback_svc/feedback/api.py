"""The API of feedback. Other systems reach it through the gateway, under the same paths."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from feedback_svc.feedback.errors import FeedbackNotFoundError
from feedback_svc.feedback.models import NEWEST_FIRST
from feedback_svc.feedback.schemas import FeedbackQuery, FeedbackRead, feedback_read
from touchpoint.http.deps import Rows
from touchpoint.http.errors import Problem
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.pagination import Page, page
from touchpoint.http.scopes import Scope

router = APIRouter(prefix="/v1")

FeedbackReader = Annotated[Caller, Depends(allowed(Scope.FEEDBACK_READ))]


@router.get("/feedback", tags=["feedback"], response_model=Page[FeedbackRead])
async def list_feedback(caller: FeedbackReader, rows: Rows, query: Annotated[FeedbackQuery, Query()]) -> Response:
    """Feedback that matches all filters, newest first."""
    matching = await NEWEST_FIRST.read(rows, caller.tenant, query.selection())
    return page(matching, query.limit, NEWEST_FIRST.order, feedback_read, text="text")


@router.get("/feedback/{feedback_id}", tags=["feedback"], responses={404: {"model": Problem}})
async def get_feedback(caller: FeedbackReader, rows: Rows, feedback_id: UUID) -> FeedbackRead:
    """One piece of feedback."""
    feedback = await NEWEST_FIRST.find(rows, caller.tenant, feedback_id)
    if feedback is None:
        raise FeedbackNotFoundError(feedback_id)
    return feedback_read(feedback)
