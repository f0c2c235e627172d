"""Rows of cases in and out of PostgreSQL: in sets for batches and the timer, one by one for the API."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.cases.models import Escalation
from escalation_svc.cases.schemas import CASE_COLUMNS, EscalationQuery, EscalationRead
from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.db.engine import raw_connection
from touchpoint.db.tenants import Tenants
from touchpoint.http.pagination import Listing, exactly

COUNT_OPEN = """
SELECT tenant_id, reason, count(*) FROM escalations WHERE tenant_id = ANY($1) AND state <> 'resolved' GROUP BY 1, 2
"""

INSERT_ESCALATIONS = """
INSERT INTO escalations (
    tenant_id, escalation_id, case_version, customer_id, reason, policy, priority, state, feedback_id, ticket_id,
    opened_at, recorded_at
)
SELECT * FROM unnest(
    $1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[],
    $10::text[], $11::timestamptz[], $12::timestamptz[]
)
ON CONFLICT DO NOTHING
RETURNING escalation_id
"""

ORDER = ("opened_at", "id")
"""What orders the list of cases, newest first."""

CASES = Listing("escalations", CASE_COLUMNS, "opened_at", "escalation_id")

EXACT_FILTERS = ("state", "reason", "priority", "customer_id", "ticket_id")


async def count_open(session: AsyncSession, tenants: Sequence[str]) -> list[tuple[str, str, int]]:
    """The cases not resolved of these tenants: tenant, reason, how many."""
    raw = await raw_connection(session)
    return [(tenant, reason, cases) for tenant, reason, cases in await raw.fetch(COUNT_OPEN, tenants)]


async def insert_escalations(session: AsyncSession, cases: Iterable[EscalationOpened]) -> set[UUID]:
    """Store new cases; answers the ids of those that were not there yet."""
    rows = [
        (
            case.meta.tenant, case.escalation_id, case.case_version, case.customer_id, case.reason, case.policy,
            case.priority, case.state, case.feedback_id, case.ticket_id, case.opened_at,
            case.meta.known_at,
        )
        for case in cases
    ]  # fmt: skip
    if not rows:
        return set()
    raw = await raw_connection(session)
    ordered = sorted(rows, key=lambda row: row[:2])
    stored = await raw.fetch(INSERT_ESCALATIONS, *map(list, zip(*ordered, strict=True)))
    return {row["escalation_id"] for row in stored}


async def find_escalation(
    session: AsyncSession, tenant: str, escalation_id: UUID, *, lock: bool = False
) -> Escalation | None:
    """One of the tenant's cases; `lock` it to change it."""
    return await session.get(Escalation, (tenant, escalation_id), with_for_update=lock)


async def list_escalations(tenants: Tenants, tenant: str, query: EscalationQuery) -> list[EscalationRead]:
    """The matching cases, newest first, one more than the page shows: it tells whether there is a next."""
    conditions = exactly(query, EXACT_FILTERS)
    return [EscalationRead(*row) for row in await CASES.read(tenants, tenant, query, conditions)]
