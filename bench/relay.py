"""`relay`: feedback-svc's worker sends a full outbox to Kafka; the floor is a bare producer of the same records."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg

from bench import backlog, floors
from bench.apart import apart
from bench.cpu import Cpu
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import FEEDBACK
from touchpoint.kafka.relay import BATCH_ROWS
from touchpoint.testing.system import System

COPIES = 4
LOOK_SECONDS = 0.01
WORKER = ("feedback-svc", "worker")

KEEP = f"""
CREATE TABLE kept AS SELECT * FROM outbox, generate_series(1, {COPIES}) AS copy;
ALTER TABLE kept DROP COLUMN copy;
UPDATE kept SET id = nextval(pg_get_serial_sequence('outbox', 'id'))
"""


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """A running worker, and a copy of the rows that the consumer wrote to the outbox, which refill it for each run."""
    async with backlog.full_topic(bench) as system:
        await backlog.consume_afresh(system, WORKER[0])
        connection = await asyncpg.connect(system.dsn(WORKER[0]))
        try:
            await connection.execute(KEEP)
            rows = await connection.fetchval("SELECT count(*) FROM kept")
            system.start_part(WORKER)
            await _drained(connection)
            yield Pair(partial(_floor, system, rows), partial(_ours, connection, rows))
        finally:
            await connection.close()


async def _ours(connection: asyncpg.Connection, rows: int) -> Sample:
    """Records per second from the commit that fills the outbox until the relay has emptied it."""
    await connection.execute("TRUNCATE outbox")
    await connection.execute("CHECKPOINT")
    await connection.execute("INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT * FROM kept ORDER BY id")
    begun, cpu = time.perf_counter(), Cpu()
    await _drained(connection)
    seconds = time.perf_counter() - begun
    return Sample(rows / seconds, {"seconds": seconds, "records": rows, "cpu_us": cpu.each(rows)})


async def _drained(connection: asyncpg.Connection) -> None:
    """Wait until the outbox is empty; `max(id)` reads one end of the index, so a poll costs next to nothing."""
    async with asyncio.timeout(600):
        while await connection.fetchval("SELECT max(id) FROM outbox") is not None:  # noqa: ASYNC110 # it is another process that drains it
            await asyncio.sleep(LOOK_SECONDS)


async def _floor(system: System, rows: int) -> Sample:
    seen = await apart(produce, kafka=floors.reached(system.kafka), count=rows // COPIES)
    return Sample(rows / seen["seconds"], seen)


async def produce(kafka: dict[str, Any], count: int) -> dict[str, float]:
    """The floor: send the records that the relay sent, in groups of its size, one after the other."""
    settings = KafkaSettings(**kafka)
    records = list((await floors.records(settings, FEEDBACK, count)).values())
    records.sort(key=lambda record: record.event_id)  # a mix of all partitions, as in the outbox
    records *= COPIES
    groups = [records[begin : begin + BATCH_ROWS] for begin in range(0, len(records), BATCH_ROWS)]
    return await floors.produce(settings, groups, lanes=1)


SCENARIO = Scenario("relay", "records/s", least=0.5, aim=0.8, prepare=prepare)
