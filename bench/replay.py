"""`replay`: feedback-svc's worker replays all events of a topic, with none of them applied, and with all applied."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from bench import backlog, floors
from bench.apart import apart
from bench.cpu import Cpu
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db import replays
from touchpoint.db.engine import transaction_on
from touchpoint.db.replays import Replay
from touchpoint.replay.plan import plan_repair
from touchpoint.replay.selection import Bound, Selection, Window
from touchpoint.testing import eventually
from touchpoint.testing.system import System

SERVICE = "feedback-svc"
WORKER = (SERVICE, "worker")
LOOK_SECONDS = 0.01
FORGET = "TRUNCATE inbox, feedback, timeline, outbox"
PASSED = "SELECT coalesce(sum(next - start), 0)::int FROM replay_checkpoints WHERE replay_id = $1"


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """A day's events that feedback-svc has applied, and its running worker; each run deletes and replays them."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, SERVICE)
        system.start_part(WORKER)
        await system.ready([WORKER])
        yield Pair(partial(_floor, system), partial(_ours, system))


async def _floor(system: System) -> Sample:
    return Sample(**await apart(floors.consume, kafka=floors.reached(system.kafka), topic=TOUCHPOINTS))


async def _ours(system: System) -> Sample:
    """The rate with all events missing; in the details, not part of the ratio, the rate with all events applied."""
    connection = await asyncpg.connect(system.dsn(SERVICE))
    try:
        await connection.execute(FORGET)
        missing = await _replay(system, connection)
        applied = await _replay(system, connection)
    finally:
        await connection.close()
    return Sample(missing.value, {**missing.details, "all_applied": applied.value})


async def plan(system: System, until: Bound) -> Replay:
    """Plan a repair of all events from the log's beginning to `until`."""
    begin = Bound(None, {(TOUCHPOINTS, number): 0 for number in range(system.kafka.partitions)})
    window = Window(begin, until)
    async with transaction_on(system.dsn(SERVICE), "bench") as session:
        return await plan_repair(session, system.kafka, SERVICE, window, Selection(), who="bench")


async def start(system: System, planned: Replay) -> None:
    """Start a planned replay; the worker runs it."""
    async with transaction_on(system.dsn(SERVICE), "bench") as session:
        await replays.change(session, str(planned.id), "run", "bench", "measured")


async def _replay(system: System, connection: asyncpg.Connection) -> Sample:
    """Plan and run a replay; records per second from its first commit to its end."""
    planned = await plan(system, Bound())
    await connection.execute("CHECKPOINT")
    await start(system, planned)
    first = await eventually(partial(connection.fetchval, PASSED, planned.id), 60)
    begun, cpu, passed = time.perf_counter(), Cpu(), first
    while passed < planned.length:
        await asyncio.sleep(LOOK_SECONDS)
        passed = await connection.fetchval(PASSED, planned.id)
    seconds, count = time.perf_counter() - begun, passed - first
    await eventually(partial(_ended, connection, planned.id))
    return Sample(count / seconds, {"seconds": seconds, "events": count, "cpu_us": cpu.each(count)})


async def _ended(connection: asyncpg.Connection, replay_id: object) -> bool:
    state = await connection.fetchval("SELECT state FROM replays WHERE id = $1", replay_id)
    if state == "failed":
        raise RuntimeError(await connection.fetchval("SELECT error FROM replays WHERE id = $1", replay_id))
    return bool(state == "done")


SCENARIO = Scenario("replay", "events/s", least=0.1, aim=0.2, prepare=prepare)
