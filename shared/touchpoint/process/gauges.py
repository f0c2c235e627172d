"""Metrics that a service's workers measure for all its processes: lag, dead letters, outbox, replays, tables.

They are read from PostgreSQL and Kafka, not reported by the processes, so they also cover a consumer that has halted or
whose machine is down. Every worker exports the same values: aggregate them with max, not sum. The gateway has no
worker: each of its processes measures the tables.
"""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka import AIOKafkaConsumer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import telemetry
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import replays
from touchpoint.db.engine import Sessions, transaction
from touchpoint.db.offsets import Place
from touchpoint.kafka.log import group_less, partition
from touchpoint.process.recurring import Recurring

T = TypeVar("T")

LOOK_SECONDS = 2.0
TABLES_SECONDS = 30.0
READ_MS = 1000
KAFKA_SECONDS = 5.0
"""Timeout for an answer of Kafka, in seconds; the next run asks again."""
MOST = 100_000
"""Dead letters and outbox rows that are counted, at most: an exact number beyond that is of no use."""
STATES = ("planned", "running", "paused", "built", "failed")
"""States of replays that an operator can still act on."""

_OFFSETS = text("SELECT topic, partition, next FROM offsets WHERE consumer = :consumer")
_OUTBOX = text(f"""
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS seconds
  FROM (SELECT created_at FROM outbox WHERE parked IS NULL ORDER BY id LIMIT {MOST}) AS unsent
""")  # noqa: S608 (no user input)
_PARKED = text("SELECT count(*) FROM outbox WHERE parked IS NOT NULL")
_DEAD_LETTERS = text(f"""
SELECT count(*) FROM (SELECT FROM dead_letters WHERE consumer = :consumer AND state = 'open' LIMIT {MOST}) AS open
""")  # noqa: S608 (no user input)
_REPLAYS = text("SELECT state, count(*) AS n FROM replays WHERE consumer = :consumer GROUP BY state")
_TABLES = text("""
SELECT relname AS table, pg_total_relation_size(oid) AS bytes FROM pg_class
 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
""")


@dataclass(slots=True)
class Gauges:
    """Measures one service; `service` is also the name of its consumer."""

    service: str
    settings: KafkaSettings
    sessions: Sessions
    tasks: tuple[Recurring, ...] = field(init=False)
    _client: AIOKafkaConsumer | None = field(default=None, init=False)
    _log: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)
    """Closes the Kafka client."""
    _appended: dict[Place, tuple[int, float]] = field(default_factory=dict, init=False)
    """By partition: an offset, and when its record was appended, in seconds since 1970. Cached, so that it is read once
    while a consumer does not advance."""

    def __post_init__(self) -> None:
        self.tasks = (
            Recurring("measure database", LOOK_SECONDS, self._measure_database),
            Recurring("measure lag", LOOK_SECONDS, self._measure_lag),
            measure_tables(self.sessions),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until `stop` is set: the database and, independently, Kafka, which may be unavailable."""
        try:
            await asyncio.gather(*(task.run(stop) for task in self.tasks))
        finally:
            await self._log.aclose()

    async def _measure_database(self) -> None:
        consumer = {"consumer": self.service}
        async with transaction(self.sessions) as session:
            outbox = (await session.execute(_OUTBOX)).one()
            telemetry.OUTBOX_PENDING.set(outbox.rows)
            telemetry.OUTBOX_AGE.set(outbox.seconds)
            telemetry.OUTBOX_PARKED.set((await session.execute(_PARKED)).scalar_one())
            open_letters = (await session.execute(_DEAD_LETTERS, consumer)).scalar_one()
            telemetry.DEAD_LETTERS.labels(self.service).set(open_letters)
            await self._measure_replays(session)

    async def _measure_replays(self, session: AsyncSession) -> None:
        counts = {row.state: row.n for row in await session.execute(_REPLAYS, {"consumer": self.service})}
        for state in STATES:
            telemetry.REPLAYS.labels(self.service, state).set(counts.get(state, 0))
        running = await replays.running(session, self.service) if "running" in counts else None
        telemetry.REPLAY_PASSED.labels(self.service).set(running.passed if running else 0)
        telemetry.REPLAY_TO_PASS.labels(self.service).set(running.length if running else 0)

    async def _measure_lag(self) -> None:
        async with transaction(self.sessions) as session:
            rows = await session.execute(_OFFSETS, {"consumer": self.service})
            standing: dict[Place, int] = {(row.topic, row.partition): row.next for row in rows}
        if not standing:
            return
        try:
            await self._compare(await self._kafka(), standing)
        except Exception:
            await self._log.aclose()
            self._client = None
            raise

    async def _kafka(self) -> AIOKafkaConsumer:
        """The Kafka client, which is kept between runs."""
        if self._client is None:
            # Fetch a single batch per partition, not a megabyte, as only the first record is needed.
            client = group_less(self.settings, max_partition_fetch_bytes=1)
            self._client = await self._log.enter_async_context(client)
        return self._client

    async def _compare(self, kafka: AIOKafkaConsumer, standing: dict[Place, int]) -> None:
        """Set the lag of each partition: the number of unapplied records, and the age of the oldest in seconds."""
        places = {partition(self.settings, place): place for place in standing}
        ends = {places[tp]: end for tp, end in (await _answer(kafka.end_offsets(places))).items()}
        behind = {place: start for place, start in standing.items() if start < ends[place]}
        await self._look_up(kafka, {p: start for p, start in behind.items() if self._known(p) != start})
        for place, start in standing.items():
            labels = self.service, place[0], str(place[1])
            telemetry.LAG.labels(*labels).set(max(0, ends[place] - start))
            waited = time.time() - self._appended[place][1] if place in behind else 0
            telemetry.LAG_SECONDS.labels(*labels).set(max(0, waited))

    def _known(self, place: Place) -> int | None:
        return self._appended[place][0] if place in self._appended else None

    async def _look_up(self, kafka: AIOKafkaConsumer, starts: dict[Place, int]) -> None:
        """Read from Kafka when the records at these offsets were appended."""
        wanted = {partition(self.settings, place): place for place in starts}
        if not wanted:
            return
        kafka.assign(list(wanted))
        for tp, place in wanted.items():
            kafka.seek(tp, starts[place])
        for tp, place in wanted.items():
            read = await _answer(kafka.getmany(tp, timeout_ms=READ_MS, max_records=1))
            # No record is readable at an open transaction, or at its marker: the lag in seconds then counts from now.
            moment = read[tp][0].timestamp / 1000 if read else time.time()
            self._appended[place] = starts[place], min(moment, time.time())
        kafka.pause(*wanted)


def measure_tables(sessions: Sessions) -> Recurring:
    """A recurring task that measures the size of the tables of a service."""

    async def measure() -> None:
        async with transaction(sessions) as session:
            for row in await session.execute(_TABLES):
                telemetry.TABLE_BYTES.labels(row.table).set(row.bytes)

    return Recurring("measure tables", TABLES_SECONDS, measure)


async def _answer(asked: Awaitable[T]) -> T:
    """Wait for an answer of Kafka, with a timeout, as aiokafka itself may wait forever."""
    async with asyncio.timeout(KAFKA_SECONDS):
        return await asked
