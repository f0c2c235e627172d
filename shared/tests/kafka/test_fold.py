"""Decisions that a service has published are applied to a database that lacks them."""

from uuid import UUID

import pytest
from sqlalchemy import text

from touchpoint.base.errors import PermanentError
from touchpoint.contracts.escalations import EscalationOpened
from touchpoint.contracts.touchpoints import TicketOpened
from touchpoint.kafka.fold import fold, own_topics
from touchpoint.kafka.handlers import Handlers
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume

NAME = "escalation-svc"
CASES = [make.escalation_opened(customer_id=f"c{number}", escalation_id=UUID(int=number)) for number in range(7)]


@pytest.fixture
async def handlers(ledger):
    """Handlers that store cases in the table `cases`, once each, and refuse the case of customer c3."""
    await ledger.query("CREATE TABLE cases (id uuid PRIMARY KEY)")
    handlers = Handlers()

    @handlers.on(EscalationOpened, TicketOpened)
    async def store(events, ctx):
        for event in events:
            if getattr(event, "escalation_id", None) == UUID(int=3):
                raise PermanentError("refused")
            if isinstance(event, EscalationOpened):
                insert = text("INSERT INTO cases VALUES (:id) ON CONFLICT DO NOTHING")
                await ctx.session.execute(insert, {"id": event.escalation_id})

    return handlers


async def _stored(ledger):
    return {row.id.int for row in await ledger.query("SELECT id FROM cases")}


def test_a_services_decisions_are_in_the_topics_that_it_both_writes_and_reads(ledger, handlers):
    assert own_topics(NAME, handlers) == ["escalations.v1"]
    assert own_topics("feedback-svc", handlers) == []
    assert own_topics("ledger-svc", ledger.handlers) == []


async def test_all_decisions_are_applied_but_those_that_a_handler_refuses(ledger, handlers, kafka):
    await append(kafka, make.ticket_opened(), *CASES)
    for _ in range(2):
        assert await fold(NAME, handlers, kafka, ledger.sessions) == len(CASES)
        assert await _stored(ledger) == {0, 1, 2, 4, 5, 6}


async def test_only_decisions_that_the_consumer_has_not_read_are_read(ledger, handlers, kafka):
    await append(kafka, *CASES[:5])
    await consume(NAME, handlers, kafka, ledger.dsn)
    assert await fold(NAME, handlers, kafka, ledger.sessions) == 0
    await append(kafka, *CASES[5:])
    await ledger.query("DELETE FROM cases")
    assert await fold(NAME, handlers, kafka, ledger.sessions) == 2
    assert await _stored(ledger) == {5, 6}
