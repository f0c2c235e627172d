"""A full topic, and how fast a service's consumer works through it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench import door, floors, ingest_batch
from bench.apart import apart
from bench.scenario import Bench, Sample
from touchpoint.db import databases, migrate
from touchpoint.testing.system import System

EVENTS = 50_000
LOOK_SECONDS = 0.01


@asynccontextmanager
async def full_topic(bench: Bench) -> AsyncIterator[System]:
    """A system whose touchpoints.v1 holds a day's events and whose gateway has stopped."""
    async with bench.system() as system:
        keys = await door.opened(system)
        await apart(ingest_batch.send, url=system.url, keys=keys, count=EVENTS)
        await system.terminate()
        yield system


async def consume(system: System, service: str) -> Sample:
    """Events per second of a consumer with an empty database, from its first commit to the end of the topic."""
    dsn = system.dsn(service)
    await databases.drop(system.servers.dsn, system.databases[service])
    await databases.create(system.servers.dsn, system.databases[service])
    await migrate.upgrade(service.replace("-", "_"), dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
        system.start_part((service, "consumer"))
        return await _watch(connection)
    finally:
        await connection.close()
        await system.terminate()


async def _watch(connection: asyncpg.Connection) -> Sample:
    """The first batch is left out: what comes before it is the process starting."""
    first, begun, applied = 0, 0.0, 0
    async with asyncio.timeout(600):
        while applied < EVENTS:
            await asyncio.sleep(LOOK_SECONDS)
            applied = await connection.fetchval("SELECT coalesce(sum(next), 0)::int FROM offsets")
            if applied and not first:
                first, begun = applied, time.perf_counter()
    seconds = time.perf_counter() - begun
    return Sample((applied - first) / seconds, {"seconds": seconds, "events": applied - first})


async def insert(system: System, tables: list[str]) -> Sample:
    """The floor: the rows that feedback-svc wrote into these tables for all events, as plain inserts."""
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return Sample(**await apart(floors.insert, dsn=system.dsn("feedback-svc"), tables=tables))
