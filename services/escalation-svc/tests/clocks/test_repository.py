import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from escalation_svc.cases.decisions import Decisions
from escalation_svc.clocks import repository
from escalation_svc.clocks.decisions import clock_id
from escalation_svc.clocks.models import CLOCKS
from escalation_svc.clocks.service import Clocks
from escalation_svc.customers.service import Customers
from escalation_svc.policies.service import Policies
from touchpoint.base.errors import TransientError
from touchpoint.db.engine import Sessions, transaction
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.testing import apply, eventually
from touchpoint.testing import factories as make

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]


def decided(policies: Policies, *events: Any) -> Decisions:
    decisions = Decisions(policies, Customers(), Clocks(policies.first_response))
    for event in events:
        decisions.take(event)
    return decisions


async def test_a_stored_clock_is_loaded_unchanged(policies: Policies, sessions: Sessions) -> None:
    opened = make.ticket_opened(
        topic="touchpoints.v1", partition=3, offset=9, traceparent="00-a-b-01", subject="s", backfill=True
    )
    (clock,) = decided(policies, opened).clocks.by_id.values()
    async with transaction(sessions) as session:
        await repository.save_clocks(session, [clock])
    async with transaction(sessions) as session:
        stored = await CLOCKS.load(session, [("acme", clock.clock_id), ("other", clock.clock_id)], lock=True)
    clock.stored = clock.version
    assert stored == [clock]


async def test_a_clock_is_found_by_its_ticket_and_tenant(policies: Policies, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await repository.save_clocks(session, decided(policies, make.ticket_opened()).clocks.by_id.values())
        clock = await repository.find_clock(session, "acme", "ticket-1")
        assert clock is not None
        assert clock.clock_id == clock_id("acme", "ticket-1")
        assert await repository.find_clock(session, "other", "ticket-1") is None


async def test_of_two_consumers_that_insert_a_clock_the_second_retries_and_loses_nothing(
    handlers: Handlers, sessions: Sessions, rows: Rows
) -> None:
    """A ticket whose events name two customers is in two partitions, and may be handled by two consumers at once."""
    reply = make.ticket_replied(customer_id="customer-2", partition=1)
    async with transaction(sessions) as session:
        await handlers.handle([handlers.prepare(make.ticket_opened())], Context(session))
        other = asyncio.create_task(apply(handlers, sessions, [reply]))
        await eventually(lambda: _waits_for_a_lock(rows))
    with pytest.raises(TransientError):
        await other
    await apply(handlers, sessions, [reply])
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["customer_id"]) == ("achieved", "customer-1")


async def _waits_for_a_lock(rows: Rows) -> bool:
    waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await rows(waiting))
