"""Fills a topic and measures how many of its events per second a service's consumer applies."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench import door, floors, ingest_batch
from bench.apart import apart
from bench.cpu import Cpu
from bench.scenario import Bench, Sample
from touchpoint.db import databases, migrate
from touchpoint.testing.system import System

EVENTS = 50_000
LOOK_SECONDS = 0.01
APPLIED = "SELECT coalesce(sum(next), 0)::int FROM offsets"


@asynccontextmanager
async def full_topic(bench: Bench, events: int = EVENTS) -> AsyncIterator[System]:
    """A system without running processes whose topic touchpoints.v1 holds a day's events."""
    async with bench.system() as system:
        keys = await door.opened(system)
        await apart(ingest_batch.send, url=system.url, keys=keys, count=events)
        await system.terminate()
        yield system


async def consume_afresh(system: System, service: str, events: int = EVENTS) -> Sample:
    """Recreate the service's database, then measure its consumer with `consume`."""
    await databases.drop(system.servers.dsn, system.databases[service])
    await databases.create(system.servers.dsn, system.databases[service])
    await migrate.upgrade(service.replace("-", "_"), system.dsn(service))
    return await consume(system, service, events)


async def consume(system: System, service: str, end: int) -> Sample:
    """Start a consumer; events per second from its first commit until `end` records of the topic are applied."""
    connection = await asyncpg.connect(system.dsn(service))
    try:
        await connection.execute("CHECKPOINT")
        before = await connection.fetchval(APPLIED)
        system.start_part((service, "consumer"))
        return await _watch(connection, before, end)
    finally:
        await connection.close()
        await system.terminate()


async def _watch(connection: asyncpg.Connection, before: int, end: int) -> Sample:
    """Measure after the first batch, because that one includes the start of the process."""
    first, applied, begun, cpu = before, before, 0.0, Cpu()
    async with asyncio.timeout(600):
        while applied < end:
            await asyncio.sleep(LOOK_SECONDS)
            applied = await connection.fetchval(APPLIED)
            if applied > before and first == before:
                first, begun, cpu = applied, time.perf_counter(), Cpu()
    seconds, count = time.perf_counter() - begun, applied - first
    return Sample(count / seconds, {"seconds": seconds, "events": count, "cpu_us": cpu.each(count)})


async def insert(system: System, tables: list[str]) -> Sample:
    """The floor: plain inserts of the rows that feedback-svc wrote to these tables for all events."""
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return Sample(**await apart(floors.insert, dsn=system.dsn("feedback-svc"), tables=tables))
