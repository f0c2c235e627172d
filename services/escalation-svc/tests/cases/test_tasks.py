import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text

from escalation_svc.cases import service, tasks
from escalation_svc.config import NAME, Settings
from escalation_svc.policies.service import Policies
from touchpoint.db.engine import Sessions, create_engine, transaction
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.health import Check
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.process.service import Runtime
from touchpoint.testing import apply, eventually
from touchpoint.testing import factories as make
from touchpoint.testing.policies import condition, policy

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
Published = Callable[[], Awaitable[list[dict[str, Any]]]]

TOPIC = "touchpoints.v1"
TARGET = timedelta(seconds=14_400)

REACH = """
INSERT INTO offsets (consumer, topic, partition, next, cluster_id, read_through)
VALUES (:consumer, :topic, :n, 0, '', :m)
ON CONFLICT (consumer, topic, partition) DO UPDATE SET read_through = excluded.read_through
"""


def now() -> datetime:
    return datetime.now(UTC)


def ticket(due: datetime, number: int = 1, partition: int = 0, **over: Any) -> Any:
    """A ticket whose clock is due at the given time."""
    return make.ticket_opened(ticket_id=f"t-{number}", time=due - TARGET, topic=TOPIC, partition=partition, **over)


async def reach(sessions: Sessions, moment: datetime | None, partition: int = 0, consumer: str = NAME) -> None:
    """Record that the consumer has read the partition up to the given time."""
    async with transaction(sessions) as session:
        await session.execute(text(REACH), {"consumer": consumer, "topic": TOPIC, "n": partition, "m": moment})


async def look(sessions: Sessions, policies: Policies, limit: int = 100) -> int:
    async with transaction(sessions) as session:
        return len(await service.pass_time(session, policies, NAME, limit))


async def breached(rows: Rows) -> list[str]:
    return [row["ticket_id"] for row in await rows("clocks WHERE state = 'breached' ORDER BY ticket_id")]


@pytest.fixture
def running(dsn: str) -> Callable[..., Any]:
    """A worker's timer, on an engine of its own, while the block lasts."""

    @asynccontextmanager
    async def run(
        factory: Callable[[Sessions], Any] = lambda sessions: sessions, checks: dict[str, Check] | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        engine = create_engine(dsn, "timer")
        settings = Settings(
            database_url=SecretStr(dsn), internal_token_secrets=[SecretStr("x" * 32)], timer_seconds=0.05
        )
        runtime = Runtime(settings, engine, factory(sessions_of(engine)), checks={} if checks is None else checks)
        task = asyncio.create_task(tasks.timer(runtime).run(runtime.stop))
        try:
            yield task
        finally:
            runtime.stop.set()
            await asyncio.wait([task])
            await engine.dispose()

    return run


async def test_a_clock_past_due_opens_a_case_in_the_same_transaction(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows, published: Published
) -> None:
    due = now() - timedelta(seconds=30)
    await apply(handlers, sessions, [ticket(due)])
    await reach(sessions, now())
    assert await look(sessions, policies) == 1
    assert [event["type"] for event in await published()] == ["sla.breached", "escalation.opened"]
    (case,) = await rows("escalations")
    assert (case["ticket_id"], case["reason"], case["opened_at"]) == ("t-1", "first_response_breached", due)
    assert await look(sessions, policies) == 0


async def test_policies_for_breaches_can_test_the_customer(
    handlers: Handlers, sessions: Sessions, rows: Rows, policies: Policies
) -> None:
    only_key = policies.model_dump(mode="json")
    is_key = condition("customer.tier", "is", "key")
    breached = policy("key", event="sla.breached", reason="first_response_breached", priority="urgent", all=[is_key])
    only_key["policies"] = [breached]
    due = now() - timedelta(seconds=30)
    await apply(
        handlers,
        sessions,
        [make.customer_updated(customer_id="k", tier="key"), ticket(due, 1, customer_id="k"), ticket(due, 2)],
    )
    await reach(sessions, now())
    await look(sessions, Policies.model_validate(only_key))
    assert [case["ticket_id"] for case in await rows("escalations")] == ["t-1"]


async def test_a_clock_does_not_fire_until_its_partition_has_been_read_past_due(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows
) -> None:
    due = now() - timedelta(hours=1)
    await apply(handlers, sessions, [ticket(due)])
    assert await look(sessions, policies) == 0, "the partition has no read_through"
    await reach(sessions, None)
    await reach(sessions, now(), consumer="another-svc")
    await reach(sessions, now(), partition=1)
    assert await look(sessions, policies) == 0, "only other partitions have been read past the due time"
    await reach(sessions, due - timedelta(hours=2))
    assert await look(sessions, policies) == 0, "the warning is not published either"
    await reach(sessions, due)
    await look(sessions, policies)
    assert await breached(rows) == [], "events appended exactly at the due time may not have been read"
    await reach(sessions, due + timedelta(milliseconds=1))
    await look(sessions, policies)
    assert await breached(rows) == ["t-1"]


async def test_a_clock_does_not_fire_until_all_partitions_with_its_events_have_been_read_past_due(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows
) -> None:
    due = now() - timedelta(hours=1)
    other = {"ticket_id": "t-1", "customer_id": "customer-2", "topic": TOPIC, "partition": 1}
    reopened = make.ticket_status_changed(status="open", time=due - timedelta(minutes=1), **other)
    await apply(handlers, sessions, [ticket(due), reopened])
    await reach(sessions, now())
    await reach(sessions, None, partition=1)
    assert await look(sessions, policies) == 0, "the other partition has no read_through"
    await reach(sessions, due, partition=1)
    await look(sessions, policies)
    assert await breached(rows) == []
    await reach(sessions, now(), partition=1)
    await look(sessions, policies)
    assert await breached(rows) == ["t-1"]


@pytest.mark.parametrize(("hours", "which"), [(1, "ahead of"), (-1, "behind")])
async def test_no_clock_fires_while_postgresqls_clock_and_this_machines_differ(
    hours: int, which: str, handlers: Handlers, sessions: Sessions, rows: Rows, running: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("touchpoint.db.clock.time", lambda: datetime.now(UTC).timestamp() - 3600 * hours)
    await apply(handlers, sessions, [ticket(now() - timedelta(minutes=1))])
    await reach(sessions, now())
    checks: dict[str, Check] = {}
    async with running(checks=checks):
        await eventually(lambda: "clock" in checks)
        why = await eventually(checks["clock"])
        assert why.startswith(f"PostgreSQL's clock is 3,600 s {which} this machine's")
        assert await breached(rows) == []
        monkeypatch.undo()
        await eventually(lambda: breached(rows))

        async def well() -> bool:
            return await checks["clock"]() is None

        await eventually(well)


async def test_a_reply_consumed_while_the_timer_waits_prevents_the_breach(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows
) -> None:
    due = now() - timedelta(hours=1)
    await apply(handlers, sessions, [ticket(due)])
    await reach(sessions, due - TARGET)
    assert await look(sessions, policies) == 0
    await apply(handlers, sessions, [make.ticket_replied(ticket_id="t-1", time=due)])
    await reach(sessions, now())
    assert await look(sessions, policies) == 0
    (clock,) = await rows("clocks")
    assert clock["state"] == "achieved"
    assert await rows("escalations") == []


async def test_a_read_position_in_the_future_does_not_make_a_clock_fire_early(
    handlers: Handlers, policies: Policies, sessions: Sessions
) -> None:
    await apply(handlers, sessions, [ticket(now() + TARGET)])
    await reach(sessions, now() + timedelta(days=1))
    assert await look(sessions, policies) == 0


async def test_a_clock_warns_once_before_it_breaches(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows, published: Published
) -> None:
    due = now() + timedelta(hours=0.5)
    await apply(handlers, sessions, [ticket(due)])
    await reach(sessions, now())
    assert [await look(sessions, policies) for _ in range(2)] == [1, 0]
    (warned,) = await published()
    assert (warned["type"], warned["clock_version"]) == ("sla.warned", 2)
    assert datetime.fromisoformat(warned["due_at"]) == due
    assert [clock["warned"] for clock in await rows("clocks")] == [True]
    assert await rows("escalations") == []


async def test_a_clock_fires_even_if_its_ticket_was_consumed_after_another_event_of_it(
    handlers: Handlers, policies: Policies, sessions: Sessions, published: Published
) -> None:
    opened = ticket(now() - timedelta(seconds=30), id="the-ticket")
    closed_before = make.ticket_status_changed(ticket_id="t-1", time=opened.meta.time - timedelta(hours=1))
    await apply(handlers, sessions, [closed_before])
    await apply(handlers, sessions, [opened])
    await reach(sessions, now())
    assert await look(sessions, policies) == 1
    breached, _ = await published()
    assert breached["event_id"] == str(uuid5(opened.meta.identity, "sla.breached"))


async def test_clocks_of_imported_tickets_never_fire(
    handlers: Handlers, policies: Policies, sessions: Sessions, published: Published
) -> None:
    await apply(handlers, sessions, [ticket(now() - timedelta(days=900), backfill=True)])
    await reach(sessions, now())
    assert await look(sessions, policies) == 0
    assert await published() == []


async def test_the_timer_skips_a_clock_whose_reply_is_being_stored(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows
) -> None:
    due = now() - timedelta(seconds=30)
    await apply(handlers, sessions, [ticket(due), ticket(due, 2)])
    await reach(sessions, now())
    async with transaction(sessions) as session:
        await handlers.handle([handlers.prepare(make.ticket_replied(ticket_id="t-1", time=due))], Context(session))
        async with asyncio.timeout(5):
            assert await look(sessions, policies) == 1
    assert await look(sessions, policies) == 0
    assert await breached(rows) == ["t-2"]


async def test_a_reply_stored_while_the_timer_fires_waits_and_is_recorded(
    handlers: Handlers, policies: Policies, sessions: Sessions, rows: Rows
) -> None:
    due = now() - timedelta(seconds=30)
    await apply(handlers, sessions, [ticket(due)])
    await reach(sessions, now())
    async with transaction(sessions) as session:
        await service.pass_time(session, policies, NAME, 100)
        reply = asyncio.create_task(apply(handlers, sessions, [make.ticket_replied(ticket_id="t-1", time=due)]))
        await eventually(lambda: _somebody_waits(sessions))
    await reply
    (clock,) = await rows("clocks")
    assert (clock["state"], clock["fulfilled_at"]) == ("breached", due)
    assert len(await rows("escalations")) == 1


async def _somebody_waits(sessions: Sessions) -> bool:
    async with transaction(sessions) as session:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await session.scalar(waiting))


async def test_two_workers_fire_each_clock_once(
    handlers: Handlers, sessions: Sessions, rows: Rows, published: Published, running: Callable[..., Any]
) -> None:
    tickets = 5 * tasks.BATCH
    due = now() - timedelta(seconds=30)
    await apply(handlers, sessions, [ticket(due, n, n % 3) for n in range(tickets)])
    async with running(), running():
        for partition in range(3):
            await reach(sessions, now(), partition)
        await eventually(lambda: _all_breached(rows, tickets))
    news = [event["ticket_id"] for event in await published() if event["type"] == "sla.breached"]
    assert len(news) == len(set(news)) == tickets
    assert len(await rows("escalations")) == tickets


async def _all_breached(rows: Rows, number: int) -> bool:
    return len(await breached(rows)) == number


async def test_a_clock_fires_within_a_second_of_its_due_time(
    handlers: Handlers, sessions: Sessions, published: Published, running: Callable[..., Any]
) -> None:
    due = now() + timedelta(seconds=0.5)
    await apply(handlers, sessions, [ticket(due)])

    async def fired() -> bool:
        await reach(sessions, now())
        return "sla.breached" in [event["type"] for event in await published()]

    async with running():
        await eventually(fired, 10)
    async with transaction(sessions) as session:
        created_at = await session.scalar(text("SELECT max(created_at) FROM outbox"))
    assert timedelta(0) < created_at - due < timedelta(seconds=1)


def failed_runs() -> float:
    return REGISTRY.get_sample_value("touchpoint_task_failures_total", {"task": "timer"}) or 0


async def test_the_timer_continues_after_transient_errors(
    handlers: Handlers, sessions: Sessions, rows: Rows, running: Callable[..., Any]
) -> None:
    await apply(handlers, sessions, [ticket(now() - timedelta(seconds=30))])
    await reach(sessions, now())
    failures = iter([ConnectionRefusedError("no database"), asyncpg.TooManyConnectionsError("full")])

    def flaky(factory: Sessions) -> Any:
        def make_session() -> Any:
            for error in failures:
                raise error
            return factory()

        return make_session

    failures_before = failed_runs()
    async with running(flaky):
        await eventually(lambda: _all_breached(rows, 1))
    assert failed_runs() == failures_before + 2


async def test_an_unexpected_exception_is_logged_once_and_does_not_end_the_timer(
    running: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Sessions) -> Any:
        def make_session() -> Any:
            raise ZeroDivisionError

        return make_session

    failures_before = failed_runs()
    async with running(broken) as task:
        await eventually(lambda: failed_runs() >= failures_before + 2)
        assert not task.done()
    printed = capsys.readouterr().out
    assert printed.count("task.failed") == 1
    assert "ZeroDivisionError" in printed


async def test_metrics_show_the_lateness_of_the_timer_and_the_overdue_clocks(
    handlers: Handlers, sessions: Sessions, running: Callable[..., Any]
) -> None:
    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(f"touchpoint_escalation_{name}") or 0

    count, seconds = sample("timer_lateness_seconds_count"), sample("timer_lateness_seconds_sum")
    due = now() - timedelta(seconds=30)
    await apply(handlers, sessions, [ticket(due, n, n % 2) for n in range(4)])
    async with running():
        await reach(sessions, due, 0)
        await reach(sessions, now(), 1)
        await eventually(lambda: sample("clocks_overdue") == 2 and sample("timer_lateness_seconds_count") - count == 4)
        # Two breaches are 30 s late. Two warnings were due a fifth of the target, 2,880 s, before the breach.
        assert sample("timer_lateness_seconds_sum") - seconds > 2 * 30 + 2 * 2880


async def test_a_ticket_that_was_recorded_late_does_not_count_as_lateness_of_the_timer(
    handlers: Handlers, sessions: Sessions, policies: Policies
) -> None:
    before = REGISTRY.get_sample_value("touchpoint_escalation_timer_lateness_seconds_sum") or 0
    await apply(handlers, sessions, [ticket(now() - timedelta(days=1), recorded=now())])
    await reach(sessions, now())
    assert await look(sessions, policies) == 1
    lateness = REGISTRY.get_sample_value("touchpoint_escalation_timer_lateness_seconds_sum") - before
    assert lateness < timedelta(hours=1).total_seconds()
