"""`replay-live`: time until live events are readable while a replay runs, compared with the time without a replay."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import asyncpg

from bench import backlog, latency, replay
from bench.apart import apart
from bench.scenario import Bench, Measure, Pair, Sample, Scenario
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db import replays
from touchpoint.db.engine import transaction_on
from touchpoint.kafka.log import connected
from touchpoint.replay.selection import Bound
from touchpoint.testing.system import System

SEEDS_FROM = 100
"""Seeds that differ from those of the replayed events: equal seeds would send the same events again."""
WINDOW = 200_000
"""Events to replay: more than a replay applies while the live events are measured."""


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """The gateway, every role of feedback-svc, and `WINDOW` events that it has applied."""
    async with backlog.full_topic(bench, WINDOW) as system:
        await backlog.consume_afresh(system, replay.SERVICE, WINDOW)
        async with connected(system.kafka, [TOUCHPOINTS]) as log:
            end = Bound(None, await log.ends([TOUCHPOINTS]))
        parts = [("gateway", "api"), *((replay.SERVICE, role) for role in ("api", "consumer", "worker"))]
        for part in parts:
            system.start_part(part)
        await system.ready(parts)
        observe = partial(_observe, system, await system.create_key(latency.TENANT), count(SEEDS_FROM))
        await observe()
        yield Pair(observe, partial(_beside_replay, system, end, observe))


async def _observe(system: System, key: str, numbers: "count[int]") -> Sample:
    seen = await apart(latency.observe, url=system.url, key=key, seed=next(numbers))
    return Sample(seen["p99_ms"], seen)


async def _beside_replay(system: System, end: Bound, observe: Measure) -> Sample:
    connection = await asyncpg.connect(system.dsn(replay.SERVICE))
    try:
        await connection.execute(replay.FORGET)
        plan = await replay.plan(system, end)
        await replay.start(system, plan)
        seen = await observe()
        passed = await connection.fetchval(replay.PASSED, plan.id)
    finally:
        await connection.close()
    if passed >= plan.length:
        raise RuntimeError("the replay was over first: make WINDOW larger")
    async with transaction_on(system.dsn(replay.SERVICE), "bench") as session:
        await replays.change(session, str(plan.id), "abort", "bench", "it was watched long enough")
    return Sample(seen.value, {**seen.details, "replayed": passed})


SCENARIO = Scenario("replay-live", "ms", least=0.2, aim=0.5, prepare=prepare, lower_is_better=True)
