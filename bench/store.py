"""`store`: feedback-svc works through a full topic, inbox and outbox included."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench import backlog
from bench.scenario import Bench, Pair, Scenario

SERVICE = "feedback-svc"


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """The rows of the floor are those that the service has written before."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, SERVICE)
        yield Pair(partial(backlog.insert, system, ["feedback"]), partial(backlog.consume_afresh, system, SERVICE))


SCENARIO = Scenario("store", "events/s", least=0.35, aim=0.6, prepare=prepare)
