"""`fairness`: one tenant's latency while another tenant floods the gateway, compared with that without a flood."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle

from bench import door, load
from bench.apart import apart, settle
from bench.cpu import Cpu
from bench.payloads import TENANTS
from bench.scenario import Bench, Pair, Sample, Scenario

RATE = 100
SECONDS = 15
CONNECTIONS = 8
FLOODERS = 64
"""Connections of the flooding tenant: each sends its next request as soon as it has a response, whatever the status."""
LEAD_SECONDS = 4
"""Seconds from the start of the flood to the start of the measurement: the key's burst allowance is used up by then."""
GUEST, FLOODER = TENANTS[:2]
SIZES = (1, door.BATCH)
"""Events per request of the flooding tenant, in the first and the second flood."""


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """A gateway, and two tenants whose keys have the default limits."""
    async with bench.system() as system:
        await door.opened(system)
        keys = {tenant: await system.create_key(tenant, limited=True) for tenant in (GUEST, FLOODER)}
        yield Pair(partial(_in_peace, system.url, keys), partial(_flooded, system.url, keys))


async def _in_peace(url: str, keys: dict[str, str]) -> Sample:
    seen = await apart(visit, url=url, keys=keys)
    return Sample(seen["p99_ms"], seen)


async def _flooded(url: str, keys: dict[str, str]) -> Sample:
    """The higher 99th percentile of two floods: one of single events, one of batches."""
    seen = {}
    for size in SIZES:
        cpu = Cpu()
        flooding = asyncio.create_task(apart(flood, url=url, keys=keys, size=size))
        await asyncio.sleep(LEAD_SECONDS)
        mine = await apart(visit, url=url, keys=keys)
        answers = await flooding
        seen[size] = {**mine, "answers": answers, "cpu_us": cpu.each(1)}
    return Sample(max(each["p99_ms"] for each in seen.values()), {f"flood_of_{size}": seen[size] for size in SIZES})


async def visit(url: str, keys: dict[str, str]) -> dict[str, float]:
    """Send events on a fixed schedule; percentiles of the time from when each request was due to its response."""
    requests = [door.single(payload, dict.fromkeys(TENANTS, keys[GUEST])) for payload in door.past(RATE * SECONDS)]
    free = asyncio.Queue[load.Connection]()
    for connection in await load.connect(url, CONNECTIONS):
        free.put_nowait(connection)
    took = list[float]()

    async def send(request: bytes, due: float) -> None:
        connection = await free.get()
        status, body = await connection.ask(request)
        took.append(time.perf_counter() - due)
        free.put_nowait(connection)
        if status != 202:
            raise RuntimeError(f"expected 202, not {status}: {body[:500].decode()}")

    settle()
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, request in enumerate(requests):
            due = begun + number / RATE
            await asyncio.sleep(due - time.perf_counter())
            tasks.create_task(send(request, due))
    return load.percentiles(took)


async def flood(url: str, keys: dict[str, str], size: int) -> dict[str, int]:
    """Send requests without a pause until the measurement is over; returns the number of responses by status."""
    payloads = door.past(20 * door.BATCH, seed=size)
    groups = [payloads[at : at + size] for at in range(0, len(payloads), size)]
    mine = dict.fromkeys(TENANTS, keys[FLOODER])
    requests = cycle([door.single(group[0], mine) if size == 1 else door.batch(group, mine) for group in groups])
    answers, end = Counter[str](), time.perf_counter() + LEAD_SECONDS + SECONDS + 1

    async def keep_asking(connection: load.Connection) -> None:
        while time.perf_counter() < end:
            status, _ = await connection.ask(next(requests))
            answers[str(status)] += 1

    async with asyncio.TaskGroup() as tasks:
        for connection in await load.connect(url, FLOODERS):
            tasks.create_task(keep_asking(connection))
    return answers


SCENARIO = Scenario("fairness", "ms", least=1 / 1.2, aim=1.0, prepare=prepare, lower_is_better=True)
