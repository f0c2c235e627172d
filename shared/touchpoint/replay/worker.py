"""The worker's task that polls for a running replay of its service and executes it; one worker at a time does.

All progress is in the replay's checkpoints: after a kill at any moment, the next run, in this or another worker,
resumes from the last committed checkpoint.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import telemetry
from touchpoint.base.errors import TransientError
from touchpoint.base.explain import explain
from touchpoint.base.pausing import pause
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import locks, replays, shadow
from touchpoint.db.engine import Sessions, blames_database, is_transient, raw_connection, transaction
from touchpoint.db.offsets import FenceLostError
from touchpoint.db.replays import Replay
from touchpoint.kafka.backoff import Backoff
from touchpoint.kafka.batch import HaltError
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.log import group_less
from touchpoint.replay.fence import ReplayFence
from touchpoint.replay.rebuild import Rebuild
from touchpoint.replay.run import Run
from touchpoint.verify.subject import Subject

LOOK_SECONDS = 0.5
"""Poll interval in seconds for a new replay, and for a pause of the current one."""

_SUBSCRIBE = text("""
WITH gone AS (DELETE FROM subscriptions WHERE consumer = :consumer AND type <> ALL(:types))
INSERT INTO subscriptions (consumer, type, topic)
SELECT :consumer, * FROM unnest(CAST(:types AS text[]), CAST(:topics AS text[]))
ON CONFLICT (consumer, type) DO UPDATE SET topic = excluded.topic
""")

_PROJECT = text("""
WITH gone AS (DELETE FROM projections WHERE consumer = :consumer AND name <> ALL(:names))
INSERT INTO projections (consumer, name) SELECT :consumer, unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")


@dataclass(slots=True)
class Replayer:
    """Executes the replays of one consumer. Runs in every worker; an advisory lock admits one at a time."""

    consumer: str
    handlers: Handlers
    settings: KafkaSettings
    sessions: Sessions
    projections: Subject | None = None
    """The tables that can be rebuilt from the log, if any."""
    _backoff: Backoff = field(default_factory=Backoff, init=False)
    _subscribed: bool = field(default=False, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Poll for replays and execute them until `stop` is set."""
        for topic in self.handlers.topics:
            for outcome in (*telemetry.OUTCOMES, "erased"):
                telemetry.REPLAYED.labels(self.consumer, topic, outcome)
        while not stop.is_set():
            try:
                await self._look(stop)
                self._backoff.succeeded()
            except Exception as error:
                if not (isinstance(error, TransientError | KafkaError) or blames_database(error)):
                    raise
                telemetry.log().warning(telemetry.REPLAY_BACKING_OFF, consumer=self.consumer, error=explain(error))
                await self._backoff.wait(stop)
            await pause(stop, LOOK_SECONDS)

    async def _look(self, stop: asyncio.Event) -> None:
        if not self._subscribed:
            await self._subscribe()
        async with transaction(self.sessions) as session:
            replay = await replays.running(session, self.consumer)
            left = await shadow.abandoned(await raw_connection(session), self.consumer)
        if replay is None and not left:
            return
        async with transaction(self.sessions) as lock:
            if await locks.acquire(lock, "replay"):
                await self._drop_abandoned(left)
                if replay is not None:
                    await self._take_up(replay, lock, stop)

    async def _take_up(self, replay: Replay, lock: AsyncSession, stop: asyncio.Event) -> None:
        telemetry.log().info(telemetry.REPLAY_TAKEN_UP, consumer=self.consumer, replay=str(replay.id))
        error = None
        try:
            async with group_less(self.settings) as kafka:
                job = self._job(replay, kafka)
                await self._work(job, replay, lock, stop)
                if not job.finished or isinstance(job, Rebuild):  # a Rebuild stores its own end
                    return
        except FenceLostError:
            return
        except HaltError as halt:
            error = str(halt)
        except Exception as unexpected:
            if isinstance(unexpected, TransientError | KafkaError) or is_transient(unexpected):
                raise
            telemetry.log().error(telemetry.REPLAY_FAILED, consumer=self.consumer, exc_info=unexpected)
            error = f"{explain(unexpected)}; see the worker's log"
        async with transaction(self.sessions) as session:
            await replays.end(session, replay.id, f"{self.consumer} worker", error)
        telemetry.log().info(telemetry.REPLAY_ENDED, consumer=self.consumer, replay=str(replay.id), error=error)

    def _job(self, replay: Replay, kafka: AIOKafkaConsumer) -> Run | Rebuild:
        if replay.kind != "rebuild":
            fence = ReplayFence(replay.id, replay.consumer)
            return Run(replay, self.handlers, kafka, self.settings, self.sessions, fence=fence)
        if self.projections is None:
            raise HaltError(f"{self.consumer} names no tables that follow from the log")
        return Rebuild(replay, self.projections, kafka, self.settings, self.sessions)

    async def _work(self, job: Run | Rebuild, replay: Replay, lock: AsyncSession, stop: asyncio.Event) -> None:
        """Run steps until the replay is finished, stopped or changed; a stop or change rolls the current step back."""
        await job.prepare()
        await job.check_log()
        while not job.finished:
            step = asyncio.create_task(_step(job))
            try:
                while not step.done():
                    await asyncio.wait({step}, timeout=LOOK_SECONDS)
                    await lock.execute(
                        text("SELECT 1")
                    )  # fails if PostgreSQL has ended the transaction, and with it the lock
                    if stop.is_set() or not await self._is_wanted(replay):
                        return
            finally:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            step.result()

    async def _drop_abandoned(self, schemas: Sequence[str]) -> None:
        """Drop the schemas left by aborted rebuilds."""
        for schema in schemas:
            async with transaction(self.sessions) as session:
                await shadow.drop(await raw_connection(session), schema)

    async def _is_wanted(self, replay: Replay) -> bool:
        """Whether the replay still runs with the same settings; with changed ones it is started again."""
        async with transaction(self.sessions) as session:
            now = await replays.running(session, self.consumer)
        return now is not None and (now.id, now.rate, now.max_errors) == (replay.id, replay.rate, replay.max_errors)

    async def _subscribe(self) -> None:
        """Store the handled event types and projections in the database: plans are made without the handlers."""
        events = sorted(self.handlers.events.items())
        values = {
            "consumer": self.consumer,
            "types": [kind for kind, _ in events],
            "topics": [event.topic for _, event in events],
        }
        names = self.projections.projection_tables if self.projections else ()
        projections = {"consumer": self.consumer, "names": list(names)}
        async with transaction(self.sessions) as session:
            await session.execute(_SUBSCRIBE, values)
            await session.execute(_PROJECT, projections)
        self._subscribed = True


async def _step(job: Run | Rebuild) -> None:
    """Run one step, then sleep as long as it asks for."""
    await asyncio.sleep(await job.step())
