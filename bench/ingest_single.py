"""`ingest-single`: the gateway accepts one event per request; the floor is an empty route with the same requests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from bench import door, floors, load
from bench.apart import apart, settle
from bench.cpu import Cpu
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.local.process import HOST
from touchpoint.testing import ports

EVENTS = 40_000
CONNECTIONS = 64


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """A gateway, and a server of the same kind with the empty route; each is idle while the other is measured."""
    async with bench.system() as system:
        keys = await door.opened(system)
        [port] = ports.reserve(1)
        empty = asyncio.create_task(apart(floors.serve_empty_route, path=door.PATH, port=port))
        try:
            yield Pair(partial(_send, f"http://{HOST}:{port}", keys), partial(_send, system.url, keys))
        finally:
            empty.cancel()
            await asyncio.gather(empty, return_exceptions=True)


async def _send(url: str, keys: Mapping[str, str]) -> Sample:
    cpu = Cpu()
    seen = await apart(send, url=url, keys=keys, count=EVENTS)
    return Sample(EVENTS / seen["seconds"], {**seen, "cpu_us": cpu.each(EVENTS)})


async def send(url: str, keys: dict[str, str], count: int) -> dict[str, float]:
    """Send a day's events, one per request."""
    requests = [door.single(payload, keys) for payload in door.past(count)]
    connections = await load.connect(url, CONNECTIONS)
    settle()
    return await load.closed_loop(connections, requests, 202)


SCENARIO = Scenario("ingest-single", "requests/s", least=0.5, aim=0.8, prepare=prepare)
