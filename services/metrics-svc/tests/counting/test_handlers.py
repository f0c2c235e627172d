import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import text

from metrics_svc.counting import sketch
from metrics_svc.counting.handlers import handlers
from touchpoint.base.errors import PermanentError
from touchpoint.contracts.base import Event
from touchpoint.db.engine import Sessions, transaction
from touchpoint.kafka.handlers import Context
from touchpoint.testing import apply
from touchpoint.testing import factories as make

Logs = Callable[[str], st.SearchStrategy[list[Event]]]
Waiting = Callable[[Sessions], Awaitable[None]]
Recount = Callable[[Sequence[Event]], dict[Any, list[int]]]


async def sums(sessions: Sessions, tenant: str = "acme") -> dict[tuple[Any, ...], tuple[dict[int, int], int]]:
    """The rollups of a tenant, summed over partitions: by key, the counts by bucket and the total."""
    about = "tenant_id, metric, quarter, scale, channel, segment, tier, bucket"
    query = text(f"SELECT {about}, sum(n), sum(total) FROM rollups WHERE tenant_id = :tenant GROUP BY {about}")
    result: dict[tuple[Any, ...], tuple[dict[int, int], int]] = {}
    async with sessions() as session:
        for *key, bucket, n, total in await session.execute(query, {"tenant": tenant}):
            buckets, before = result.get(tuple(key), ({}, 0))
            result[tuple(key)] = ({**buckets, bucket: int(n)} if n else buckets, before + int(total))
    return {fact: held for fact, held in result.items() if held[0] or held[1]}


def later(minutes: float) -> dict[str, Any]:
    return {"time": make.NOON + timedelta(minutes=minutes)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_the_rollups_equal_a_recount_for_any_log_in_any_batches(
    sessions: Sessions, logs: Logs, recount: Recount, data: st.DataObject
) -> None:
    tenant = uuid4().hex
    log = data.draw(logs(tenant))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=3)))
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        await apply(handlers, sessions, log[start:end])
    expected = {
        fact: (dict(Counter(value if fact[3] else sketch.bucket(value) for value in values)), sum(values))
        for fact, values in recount(log).items()
    }
    assert await sums(sessions, tenant) == expected


async def test_customers_and_tickets_of_one_batch_are_known_in_the_next(sessions: Sessions) -> None:
    await apply(handlers, sessions, [make.customer_updated(segment="smb", tier="key"), make.ticket_opened()])
    await apply(handlers, sessions, [make.customer_updated(tier=None, **later(1))])
    await apply(handlers, sessions, [make.feedback(score=3, **later(2)), make.ticket_replied(**later(2))])
    assert await sums(sessions) == {
        ("acme", "nps", make.NOON, "0-10", "email", "smb", "unknown"): ({3: 1}, 3),
        ("acme", "first-response", make.NOON, "", "email", "smb", "key"): (
            {sketch.bucket(120_000_000): 1},
            120_000_000,
        ),
    }


async def test_a_batch_rolled_back_leaves_nothing(sessions: Sessions) -> None:
    bad = make.feedback(score=3)
    object.__setattr__(bad, "score", None)
    with pytest.raises(PermanentError):
        await apply(handlers, sessions, [make.feedback(), make.ticket_opened(), bad])
    assert await sums(sessions) == {}
    async with sessions() as session:
        assert (await session.execute(text("SELECT count(*) FROM tickets"))).scalar_one() == 0


async def test_consumers_of_two_partitions_share_a_ticket_and_count_it_once(
    sessions: Sessions, waiting: Waiting
) -> None:
    # A ticket that names two customers breaks the contract. Its sums must be correct nevertheless.
    async with transaction(sessions) as first:
        await handlers.handle([handlers.prepare(make.ticket_opened(partition=0))], Context(first))
        replied = make.ticket_replied(customer_id="customer-2", partition=1, **later(5))
        second = asyncio.create_task(apply(handlers, sessions, [replied]))
        await waiting(sessions)
    await second
    ((_, (buckets, total)),) = (await sums(sessions)).items()
    assert (sum(buckets.values()), total) == (1, 300_000_000)


async def test_consumers_of_two_partitions_add_to_the_same_hour_without_waiting(sessions: Sessions) -> None:
    async with transaction(sessions) as first:
        await handlers.handle([handlers.prepare(make.feedback(partition=0))], Context(first))
        other = make.feedback(partition=1, customer_id="customer-2")
        async with asyncio.timeout(5):
            await apply(handlers, sessions, [other])
    assert list((await sums(sessions)).values()) == [({9: 2}, 18)]


async def test_a_prometheus_metric_counts_committed_measurements(sessions: Sessions) -> None:
    def measured() -> float:
        return REGISTRY.get_sample_value("touchpoint_metrics_measurements_total", {"metric": "csat"}) or 0

    before = measured()
    events = [make.feedback(kind="csat", score=4), make.feedback(kind="csat", score=4)]
    async with sessions() as session:
        await handlers.handle([handlers.prepare(event) for event in events], Context(session))
        await session.rollback()
    assert measured() == before, "what is rolled back will come again"
    await apply(handlers, sessions, events)
    assert measured() == before + 2
