"""`aggregate`: metrics-svc's consumer applies the same full topic as in `store`; the floor is the same."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench import backlog
from bench.scenario import Bench, Pair, Scenario


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """Fills the topic, and has feedback-svc apply it once: the floor inserts the rows that feedback-svc wrote."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, "feedback-svc")
        yield Pair(
            partial(backlog.insert, system, ["feedback"]), partial(backlog.consume_afresh, system, "metrics-svc")
        )


SCENARIO = Scenario("aggregate", "events/s", least=0.4, aim=0.7, prepare=prepare)
