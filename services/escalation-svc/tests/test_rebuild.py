"""A rebuild of escalation-svc recomputes customers and clocks, and leaves what people and the timer have decided."""

from sqlalchemy import text

from escalation_svc.cases import service
from escalation_svc.verify import subject
from touchpoint.db.engine import transaction
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, drained, rebuilt, working
from touchpoint.verify.run import verify

NAME = "escalation-svc"
EVENTS = [
    make.customer_updated(customer_id="c1", tier="key"),
    make.feedback(customer_id="c1", score=2),
    make.ticket_opened(customer_id="c1", ticket_id="t1", priority="urgent"),
    make.ticket_opened(customer_id="c1", ticket_id="t2"),
]


async def _breach(session, policies):
    """Let the timer fire all clocks."""
    await session.execute(text("UPDATE offsets SET read_through = now()"))
    await service.pass_time(session, policies, NAME, 100)


async def _tables(factory):
    async with transaction(factory) as session:
        return {
            table: sorted(str(tuple(row)) for row in await session.execute(text(f"SELECT * FROM {table}")))
            for table in ("customers", "clocks", "escalations")
        }


async def test_a_rebuild_corrects_customers_and_clocks_and_keeps_decisions(kafka, dsn, policies):
    handlers = subject().handlers
    async with working(NAME, handlers, kafka, dsn, projections=subject()) as factory:
        await append(kafka, *EVENTS)
        await drained(NAME, handlers, kafka, factory)
        async with transaction(factory) as session:
            await _breach(session, policies)
        async with transaction(factory) as session:
            cases = [
                tuple(row) for row in await session.execute(text("SELECT tenant_id, escalation_id FROM escalations"))
            ]
            for tenant, case in cases:
                await service.acknowledge(session, tenant, case, "ann")
            await service.resolve(session, *cases[0], "bob", "Called back.")
        await drained(NAME, handlers, kafka, factory)
        before = await _tables(factory)
        async with transaction(factory) as session:
            await session.execute(text("UPDATE customers SET tier = 'basic'"))
            await session.execute(text("DELETE FROM clocks WHERE ticket_id = 't2'"))

        done = await rebuilt(NAME, kafka, factory)

        assert done.state == "done"
        assert {(each["fault"], each["where"]) for each in done.summary["compared"]["findings"]} == {
            ("changed", "customers"), ("missing", "clocks"), ("missing", "firings")
        }  # fmt: skip
        assert await _tables(factory) == before
    assert len(before["escalations"]) == 4
    assert (await verify(subject(), dsn, kafka)).findings == []
