"""`ingest-batch`: the gateway accepts events in batches of 500; the floor is a bare producer of the same records."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bench import door, floors, load
from bench.apart import apart, settle
from bench.cpu import Cpu
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.testing.system import System

EVENTS = 80_000


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """A gateway that has accepted the events once: the floor produces the records that it wrote."""
    async with bench.system() as system:
        ours = partial(_ours, system, await door.opened(system))
        await ours()
        yield Pair(partial(_floor, system), ours)


async def _ours(system: System, keys: Mapping[str, str]) -> Sample:
    cpu = Cpu()
    seen = await apart(send, url=system.url, keys=keys, count=EVENTS)
    return Sample(EVENTS / seen["seconds"], {**seen, "cpu_us": cpu.each(EVENTS)})


async def _floor(system: System) -> Sample:
    seen = await apart(produce, kafka=floors.reached(system.kafka), count=EVENTS)
    return Sample(EVENTS / seen["seconds"], seen)


async def send(url: str, keys: dict[str, str], count: int, **which: Any) -> dict[str, float]:
    """Send a day's events in batches; `which`: further arguments of `door.past`."""
    requests = [door.batch(group, keys) for group in door.groups(door.past(count, **which))]
    connections = await load.connect(url, door.LANES)
    settle()
    return await load.closed_loop(connections, requests, 202)


async def produce(kafka: dict[str, Any], count: int) -> dict[str, float]:
    """The floor: produce the records of the same events, in the same groups."""
    settings = KafkaSettings(**kafka)
    records = await floors.records(settings, TOUCHPOINTS, count)
    grouped = [[records[payload.id] for payload in group] for group in door.groups(door.past(count))]
    return await floors.produce(settings, grouped, door.LANES)


SCENARIO = Scenario("ingest-batch", "events/s", least=0.6, aim=1.0, prepare=prepare)
