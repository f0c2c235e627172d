import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from metrics_svc.catalogue.service import Dimension, Metric
from metrics_svc.counting import repository
from metrics_svc.counting.decisions import Opening, Sums, Ticket
from metrics_svc.counting.models import Cell
from metrics_svc.counting.service import Count
from touchpoint.db.engine import Sessions, create_engine, transaction
from touchpoint.db.roles import api_role
from touchpoint.db.tenants import Tenants
from touchpoint.testing.factories import NOON

Waiting = Callable[[Sessions], Awaitable[None]]

KEY = ("acme", "ticket-1")
OPENED = Ticket(Opening(NOON, NOON, uuid4(), "customer-1", "email", "smb", "key"))
CELL = Cell("acme", "nps", NOON, "0-10", "email", "smb", "key", bucket=9, partition=0)


async def test_a_stored_ticket_is_read_unchanged(sessions: Sessions) -> None:
    ends = (NOON, NOON + timedelta(seconds=1.5))
    for ticket in (OPENED, Ticket(None, ends), OPENED._replace(replies=ends, solutions=(NOON,))):
        async with transaction(sessions) as session:
            await repository.lock_tickets(session, {KEY}, {})
            await repository.write_tickets(session, {KEY: ticket})
        async with transaction(sessions) as session:
            assert await repository.lock_tickets(session, {KEY, ("acme", "new")}, {}) == {
                KEY: ticket,
                ("acme", "new"): Ticket(),
            }


async def test_a_second_transaction_waits_for_the_lock_on_a_ticket_and_reads_what_the_first_wrote(
    sessions: Sessions, waiting: Waiting
) -> None:
    async with transaction(sessions) as session:
        await repository.lock_tickets(session, {KEY}, {})

    async def second() -> dict[tuple[str, str], Ticket]:
        async with transaction(sessions) as session:
            return await repository.lock_tickets(session, {KEY}, {})

    async with transaction(sessions) as first:
        await repository.lock_tickets(first, {KEY}, {})
        result = asyncio.create_task(second())
        await waiting(sessions)
        await repository.write_tickets(first, {KEY: OPENED})
    assert await result == {KEY: OPENED}


async def test_counts_are_read_by_period_scale_and_group(sessions: Sessions, dsn: str) -> None:
    hours = [NOON + timedelta(hours=n) for n in range(4)]
    cells = {
        CELL._replace(quarter=hour, bucket=n, partition=p): Sums(1, n) for n, hour in enumerate(hours) for p in (0, 1)
    }
    cells[CELL._replace(channel="chat", quarter=hours[2])] = Sums(3, 27)
    async with transaction(sessions) as session:
        await repository.add(session, cells)
        await repository.add(session, {CELL._replace(channel="chat", quarter=hours[2]): Sums(1, 9)})
    engine = create_engine(dsn, "tests", role=api_role("metrics_svc"))
    periods, by_channel = [hours[0], hours[2]], [Dimension.CHANNEL]
    result = await repository.read_counts(
        Tenants(engine), "acme", Metric.NPS, periods, hours[3], group_by=by_channel, where={}, limit=9
    )
    await engine.dispose()
    assert sorted(result) == [
        Count(0, "0-10", ("email",), {0: 2, 1: 2}, 2),
        Count(1, "0-10", ("chat",), {9: 4}, 36),
        Count(1, "0-10", ("email",), {2: 2}, 4),
    ]


async def test_empty_arguments_are_no_error(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        assert await repository.lock_tickets(session, set(), {}) == {}
        assert await repository.reach(session, {}) == {}
        assert await repository.read_groups(session, set()) == {}
        assert await repository.read_answers(session, {}) == []
        await repository.add(session, {})
