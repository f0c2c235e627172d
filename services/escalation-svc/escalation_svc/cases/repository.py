"""SQL for cases beyond the generic statements of `Table`."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.cases.models import CASES, Case
from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.db.engine import raw_connection

COUNT_OPEN = """
SELECT tenant_id, reason, count(*) FROM escalations WHERE tenant_id = ANY($1) AND state <> 'resolved' GROUP BY 1, 2
"""
CHANGED_BY_PEOPLE = (
    "case_version", "state", "acknowledged_at", "acknowledged_by", "resolved_at", "resolved_by", "resolution",
)  # fmt: skip
"""The columns that acknowledging and resolving change; the API's database role may update no others."""


async def count_open(session: AsyncSession, tenants: Sequence[str]) -> list[tuple[str, str, int]]:
    """The number of unresolved cases of these tenants, as (tenant, reason, number)."""
    raw = await raw_connection(session)
    return [(tenant, reason, cases) for tenant, reason, cases in await raw.fetch(COUNT_OPEN, tenants)]


async def insert_opened(session: AsyncSession, opened: Iterable[EscalationOpened]) -> set[UUID]:
    """Store new cases; returns the ids of those that were not stored before."""
    added = await CASES.insert_missing(session, [_row(event) for event in opened])
    return {escalation_id for _, escalation_id in added}


def _row(event: EscalationOpened) -> Case:
    return Case(
        tenant_id=event.meta.tenant,
        escalation_id=event.escalation_id,
        case_version=event.case_version,
        customer_id=event.customer_id,
        reason=event.reason,
        policy=event.policy,
        priority=event.priority,
        state=event.state,
        feedback_id=event.feedback_id,
        ticket_id=event.ticket_id,
        opened_at=event.opened_at,
        recorded_at=event.meta.known_at,
    )
