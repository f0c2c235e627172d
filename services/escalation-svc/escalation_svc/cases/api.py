"""The API of escalation-svc. Other systems reach it through the gateway, under the same paths."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from escalation_svc.cases import service
from escalation_svc.cases.errors import EscalationNotFoundError
from escalation_svc.cases.models import CASES, NEWEST_FIRST
from escalation_svc.cases.schemas import (
    Acknowledgement,
    ClockRead,
    EscalationDetail,
    EscalationQuery,
    EscalationRead,
    Resolution,
    case_read,
    detail_read,
)
from escalation_svc.clocks import service as clocks
from touchpoint.http.deps import ReadOnly, Rows, Transaction
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.pagination import Page, page
from touchpoint.http.scopes import Scope

router = APIRouter(prefix="/v1/escalations")

Reader = Annotated[Caller, Depends(allowed(Scope.ESCALATIONS_READ))]
Writer = Annotated[Caller, Depends(allowed(Scope.ESCALATIONS_WRITE))]


@router.get("", response_model=Page[EscalationRead])
async def list_escalations(caller: Reader, rows: Rows, query: Annotated[EscalationQuery, Query()]) -> Response:
    """Cases that match all filters, newest first."""
    matching = await NEWEST_FIRST.read(rows, caller.tenant, query.selection())
    return page(matching, query.limit, NEWEST_FIRST.order, case_read)


@router.get("/{escalation_id}")
async def get_escalation(caller: Reader, session: ReadOnly, escalation_id: UUID) -> EscalationDetail:
    """One case, with the first-response clock of its ticket."""
    case = await CASES.find(session, caller.tenant, escalation_id)
    if case is None:
        raise EscalationNotFoundError(escalation_id)
    detail = detail_read(case)
    if case.ticket_id and (clock := await clocks.find_clock(session, caller.tenant, case.ticket_id)):
        detail.clock = ClockRead.model_validate(clock)
    return detail


@router.post("/{escalation_id}/acknowledge")
async def acknowledge_escalation(
    caller: Writer, session: Transaction, escalation_id: UUID, body: Acknowledgement | None = None
) -> EscalationRead:
    """Acknowledge an open case. Idempotent: an acknowledged case is returned unchanged; a resolved case is a 409."""
    by = _person(caller, body)
    return case_read(await service.acknowledge(session, caller.tenant, escalation_id, by))


@router.post("/{escalation_id}/resolve")
async def resolve_escalation(
    caller: Writer, session: Transaction, escalation_id: UUID, body: Resolution | None = None
) -> EscalationRead:
    """Resolve a case, acknowledged or not. Idempotent: a resolved case is returned unchanged."""
    by, resolution = _person(caller, body), body.resolution if body else None
    return case_read(await service.resolve(session, caller.tenant, escalation_id, by, resolution))


def _person(caller: Caller, body: Acknowledgement | None) -> str:
    """The person who acts: "NAME (KEY)" if the body names one, else the name of the API key."""
    return f"{body.by} ({caller.key})" if body and body.by else caller.key
