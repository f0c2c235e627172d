"""The route that lists the audit trail: what operators did."""

from typing import Annotated

from fastapi import APIRouter, Query

from touchpoint.db import audit
from touchpoint.http import pagination
from touchpoint.operators.audit import schemas
from touchpoint.operators.deps import Reader, Session
from touchpoint.operators.schemas import Entries, page

router = APIRouter(prefix="/audit")


@router.get("")
async def list_audit(
    caller: Reader, session: Session, query: Annotated[schemas.AuditQuery, Query()]
) -> Entries[schemas.AuditLine]:
    """List what operators did: who, when, why, and with what result; newest first."""
    before = pagination.read(query.cursor) if query.cursor else None
    rows = await audit.lines(session, query.since, query.limit + 1, consumer=query.consumer, before=before)
    return page([schemas.AuditLine.of(row) for row in rows], query.limit)
