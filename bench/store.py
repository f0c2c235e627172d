"""`store`: feedback-svc's consumer applies a full topic, inbox and outbox included; the floor is plain inserts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench import backlog
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.testing.system import System

SERVICE = "feedback-svc"


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """Fills the topic, and has the service apply it once: the floor inserts the rows that the service wrote."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, SERVICE)
        yield Pair(partial(_floor, system), partial(backlog.consume_afresh, system, SERVICE))


async def _floor(system: System) -> Sample:
    """One row per event; in the details, not part of the ratio, the rate for all rows that the service writes."""
    first = await backlog.insert(system, ["feedback"])
    every = await backlog.insert(system, ["inbox", "feedback", "timeline", "outbox"])
    return Sample(first.value, {**first.details, "every_table": every.value})


SCENARIO = Scenario("store", "events/s", least=0.35, aim=0.6, prepare=prepare)
