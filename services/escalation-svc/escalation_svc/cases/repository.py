"""SQL for cases beyond the generic statements of `Table`."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.cases.decisions import CaseEvent
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
PUBLISHED = [name for name in Case._fields if name not in ("tenant_id", "recorded_at")]
"""The columns that case events have as fields."""


async def count_open(session: AsyncSession, tenants: Sequence[str]) -> list[tuple[str, str, int]]:
    """The number of unresolved cases of these tenants, as (tenant, reason, number)."""
    raw = await raw_connection(session)
    return [(tenant, reason, cases) for tenant, reason, cases in await raw.fetch(COUNT_OPEN, tenants)]


async def insert_opened(session: AsyncSession, opened: Iterable[EscalationOpened]) -> set[UUID]:
    """Store new cases; returns the ids of those that were not stored before."""
    added = await CASES.insert_missing(session, [_row(event) for event in opened])
    return {escalation_id for _, escalation_id in added}


async def fold(session: AsyncSession, events: Iterable[CaseEvent]) -> None:
    """Store what our own events say of cases, where it is newer than the stored case."""
    newest: dict[tuple[str, UUID], Case] = {}
    for event in events:
        case = _row(event)
        known = newest.setdefault((case.tenant_id, case.escalation_id), case)
        newer = max(known, case, key=attrgetter("case_version"))
        recorded_at = min(known.recorded_at, case.recorded_at)
        newest[case.tenant_id, case.escalation_id] = newer._replace(recorded_at=recorded_at)
    await CASES.upsert_newer(session, newest.values(), "case_version", keep=("recorded_at",))


def _row(event: CaseEvent) -> Case:
    """The case as the event describes it. `recorded_at` is that of the opening, as other events are recorded later."""
    return Case(
        tenant_id=event.meta.tenant,
        recorded_at=event.meta.known_at,
        **{name: getattr(event, name) for name in PUBLISHED},
    )
