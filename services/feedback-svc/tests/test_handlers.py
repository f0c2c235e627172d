import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from feedback_svc.feedback.models import FEEDBACK, Feedback
from feedback_svc.handlers import handlers
from feedback_svc.timeline.models import TIMELINE, Entry
from touchpoint.contracts.base import Event
from touchpoint.db.engine import Sessions
from touchpoint.kafka.handlers import Context
from touchpoint.testing import apply
from touchpoint.testing import factories as make


async def stored(sessions: Sessions) -> list[Feedback]:
    async with sessions() as session:
        return await FEEDBACK.fetch(session, f"SELECT {FEEDBACK.select} FROM feedback ORDER BY occurred_at")


async def timeline(sessions: Sessions) -> list[Entry]:
    async with sessions() as session:
        return await TIMELINE.fetch(session, f"SELECT {TIMELINE.select} FROM timeline ORDER BY occurred_at")


async def published(sessions: Sessions) -> list[dict[str, Any]]:
    async with sessions() as session:
        rows = await session.execute(text("SELECT topic, value FROM outbox ORDER BY id"))
        return [{"topic": row.topic} | json.loads(row.value) for row in rows]


def counted(kind: str, channel: str) -> float:
    return REGISTRY.get_sample_value("touchpoint_feedback_stored_total", {"kind": kind, "channel": channel}) or 0


async def test_feedback_is_stored_with_all_its_fields(sessions: Sessions) -> None:
    event = make.feedback(
        id="f-1", source="/survey", recorded=make.NOON + timedelta(hours=1), backfill=True, language="en",
        survey_id="s-1", question_id="q-1", submission_id="a-1", journey_stage="delivery", product="desk",
    )  # fmt: skip
    await apply(handlers, sessions, [event])
    (row,) = await stored(sessions)
    assert (row.tenant_id, row.id, row.source, row.event_id) == ("acme", event.meta.identity, "/survey", "f-1")
    assert (row.occurred_at, row.recorded_at, row.backfill) == (make.NOON, make.NOON + timedelta(hours=1), True)
    assert (row.score_value, row.score_min, row.score_max) == (9, 0, 10)
    same = event.model_dump(exclude={"score"})
    assert {name: getattr(row, name) for name in same} == same


async def test_feedback_without_score_or_customer_is_stored(sessions: Sessions) -> None:
    await apply(handlers, sessions, [make.feedback(kind="review", score=None, customer_id=None)])
    (row,) = await stored(sessions)
    assert (row.score_value, row.customer_id) == (None, None)
    assert await timeline(sessions) == []


async def test_every_stored_feedback_is_announced_in_log_order(sessions: Sessions) -> None:
    events = [make.feedback(time=make.NOON - timedelta(hours=n)) for n in range(20)]
    await apply(handlers, sessions, events)
    news = await published(sessions)
    assert [item["feedback_id"] for item in news] == [str(event.meta.identity) for event in events]
    assert {item["topic"] for item in news} == {"feedback.v1"}


async def test_all_of_a_customers_touchpoints_are_on_the_timeline(sessions: Sessions) -> None:
    kinds = (
        make.feedback, make.ticket_opened, make.ticket_replied, make.ticket_status_changed, make.interaction,
        make.customer_updated, make.subscription_changed, make.usage_reported, make.team_feedback,
        make.escalation_opened, make.sla_breached,
    )  # fmt: skip
    events: list[Event] = [kind(time=make.NOON + timedelta(hours=n)) for n, kind in enumerate(kinds)]
    await apply(handlers, sessions, events)
    rows = await timeline(sessions)
    assert [(row.type, row.id) for row in rows] == [(event.type, event.meta.identity) for event in events]
    assert {row.customer_id for row in rows} == {"customer-1"}
    assert json.loads(rows[1].details)["text"] == "Since this morning it does not start."


async def test_a_remark_about_no_customer_changes_nothing(sessions: Sessions) -> None:
    await apply(handlers, sessions, [make.team_feedback(customer_id=None)])
    assert await timeline(sessions) == []
    assert await stored(sessions) == []


async def test_the_same_event_of_two_tenants_is_two_events(sessions: Sessions) -> None:
    events = [make.feedback(id="f-1", tenant=tenant) for tenant in ("acme", "globex")]
    await apply(handlers, sessions, events)
    assert sorted(row.tenant_id for row in await stored(sessions)) == ["acme", "globex"]
    assert sorted(row.tenant_id for row in await timeline(sessions)) == ["acme", "globex"]


@pytest.mark.parametrize("event", [make.feedback(), make.ticket_opened()])
async def test_an_event_handled_twice_is_an_error_and_not_swallowed(sessions: Sessions, event: Event) -> None:
    await apply(handlers, sessions, [event])
    with pytest.raises(asyncpg.UniqueViolationError):
        await apply(handlers, sessions, [event])


async def test_feedback_is_counted_once_it_is_committed(sessions: Sessions) -> None:
    before = counted("csat", "sms"), counted("nps", "sms")
    events = [make.feedback(channel="sms"), *(make.feedback(kind="csat", score=4, channel="sms") for _ in range(3))]
    async with sessions() as session:
        await handlers.handle([handlers.prepare(event) for event in events], Context(session))
        await session.rollback()
    assert (counted("csat", "sms"), counted("nps", "sms")) == before
    await apply(handlers, sessions, events)
    assert (counted("csat", "sms"), counted("nps", "sms")) == (before[0] + 3, before[1] + 1)
