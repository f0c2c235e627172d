"""Operations on cases, for the consumer (`take`), the timer (`pass_time`) and the API (`acknowledge`, `resolve`)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from escalation_svc.cases import repository, telemetry
from escalation_svc.cases.decisions import Decisions, Input
from escalation_svc.cases.errors import AlreadyResolvedError, EscalationNotFoundError
from escalation_svc.cases.models import CASES, Case
from escalation_svc.clocks import service as clocks
from escalation_svc.clocks.service import Clock, Clocks
from escalation_svc.customers import service as customers
from escalation_svc.policies.service import Policies
from touchpoint.base import tracing
from touchpoint.contracts.base import Meta
from touchpoint.contracts.escalations import (
    EscalationAcknowledged,
    EscalationOpened,
    EscalationResolved,
    EscalationState,
)
from touchpoint.db import outbox
from touchpoint.db.locks import lock_partitions


async def take(session: AsyncSession, policies: Policies, events: Sequence[Input]) -> None:
    """Decide about a batch of events, in log order. Each table is read by one query and written by one statement."""
    await lock_partitions(session, "customers", {event.meta.partition for event in events})
    locked = await clocks.lock(session, policies.first_response, events)
    named = [(event.meta.tenant, event.customer_id) for event in events if event.customer_id is not None]
    decisions = Decisions(policies, await customers.load(session, named), locked)
    for event in events:
        decisions.take(event)
    await _carry_out(session, decisions)


async def pass_time(session: AsyncSession, policies: Policies, consumer: str, limit: int) -> list[Clock]:
    """Warn about and breach due clocks, as far as `consumer` has read the log; returns the clocks that changed.

    No reply is missed: a clock's time advances only to where the consumer has read the clock's partitions. Nothing is
    published twice: due clocks are locked, and other workers skip locked clocks.
    """
    due = await clocks.lock_due(session, consumer, limit)
    woken = [each.clock for each in due]
    known = await customers.load(session, [(c.tenant_id, c.customer_id) for c in woken if c.customer_id])
    decisions = Decisions(policies, known, Clocks(policies.first_response, woken))
    for each in due:
        decisions.pass_time(each.clock, each.until)
    await _carry_out(session, decisions)
    return woken


async def acknowledge(session: AsyncSession, tenant: str, escalation_id: UUID, by: str) -> Case:
    """Acknowledge a case; idempotent. Raises if the case is resolved or does not exist."""
    case = await _locked(session, tenant, escalation_id)
    if case.state == EscalationState.RESOLVED:
        raise AlreadyResolvedError(escalation_id)
    if case.state == EscalationState.OPEN:
        now = datetime.now(UTC)
        case = case._replace(state=EscalationState.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by)
        case = await _change(session, case, EscalationAcknowledged, now)
    return case


async def resolve(session: AsyncSession, tenant: str, escalation_id: UUID, by: str, resolution: str | None) -> Case:
    """Resolve a case; idempotent. Raises if the case does not exist."""
    case = await _locked(session, tenant, escalation_id)
    if case.state != EscalationState.RESOLVED:
        now = datetime.now(UTC)
        case = case._replace(state=EscalationState.RESOLVED, resolved_at=now, resolved_by=by, resolution=resolution)
        case = await _change(session, case, EscalationResolved, now)
    return case


async def _carry_out(session: AsyncSession, decisions: Decisions) -> None:
    """Store the decisions, then write the outbox: the rows are locked by then, so events are in version order."""
    await customers.save(session, decisions.customers)
    await clocks.save(session, decisions.clocks)
    await repository.fold(session, decisions.folded)
    opened = await repository.insert_opened(session, decisions.cases.values())
    outgoing = [e for e in decisions.outgoing if not isinstance(e, EscalationOpened) or e.escalation_id in opened]
    await outbox.publish(session, *outgoing)
    telemetry.count_opened(session, [decisions.cases[case_id] for case_id in opened])


async def _locked(session: AsyncSession, tenant: str, escalation_id: UUID) -> Case:
    case = await CASES.find(session, tenant, escalation_id, lock=True)
    if case is None:
        raise EscalationNotFoundError(escalation_id)
    return case


async def _change(
    session: AsyncSession,
    case: Case,
    kind: type[EscalationAcknowledged] | type[EscalationResolved],
    time: datetime,
) -> Case:
    """Store a case's new state with the next version and publish it; returns the stored case.

    A command has no causing event, so the event's id is derived from the case's id and version.
    """
    case = case._replace(case_version=case.case_version + 1)
    command = Meta(
        id=f"{case.escalation_id}/{case.case_version}",
        source="/v1/escalations",
        tenant=case.tenant_id,
        time=time,
        recorded=time,
        traceparent=tracing.current(),
    )
    await CASES.update(session, [case], only=repository.CHANGED_BY_PEOPLE)
    await outbox.publish(session, kind.model_validate(case, from_attributes=True).caused_by(command))
    return case
