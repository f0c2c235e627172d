"""`aggregate`: metrics-svc works through the same topic as feedback-svc in `store`, beside the same floor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench import backlog
from bench.scenario import Bench, Pair, Scenario


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """The rows of the floor are those that feedback-svc has written before."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, "feedback-svc")
        yield Pair(
            partial(backlog.insert, system, ["feedback"]), partial(backlog.consume_afresh, system, "metrics-svc")
        )


SCENARIO = Scenario("aggregate", "events/s", least=0.4, aim=0.7, prepare=prepare)
