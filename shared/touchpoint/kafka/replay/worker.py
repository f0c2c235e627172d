"""The worker's task: looks for a replay of its service that is to be worked on, and works on it alone.

It keeps nothing in memory that is not in the replay's checkpoints: killed at any moment, the next look (its own or
another worker's) goes on where the last commit was.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint import telemetry
from touchpoint.db import replays
from touchpoint.db.engine import Sessions, is_transient, transaction
from touchpoint.db.offsets import FenceLostError
from touchpoint.db.replays import Replay
from touchpoint.errors import TransientError
from touchpoint.kafka.backoff import Backoff
from touchpoint.kafka.batch import HaltError
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.log import group_less
from touchpoint.kafka.replay.run import Run
from touchpoint.settings import KafkaSettings

LOOK_SECONDS = 0.5
"""How soon a replay is taken up, and how soon a pause is seen."""
_LOCK = zlib.crc32(b"touchpoint replay")

_SUBSCRIBE = text("""
WITH gone AS (DELETE FROM subscriptions WHERE consumer = :consumer AND type <> ALL(:types))
INSERT INTO subscriptions (consumer, type, topic)
SELECT :consumer, * FROM unnest(CAST(:types AS text[]), CAST(:topics AS text[]))
ON CONFLICT (consumer, type) DO UPDATE SET topic = excluded.topic
""")


@dataclass(slots=True)
class Replayer:
    """Works on the replays of one consumer, in every worker of its service; one at a time does."""

    consumer: str
    handlers: Handlers
    settings: KafkaSettings
    sessions: Sessions
    _backoff: Backoff = field(default_factory=Backoff, init=False)
    _subscribed: bool = field(default=False, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Look and work until `stop` is set."""
        while not stop.is_set():
            try:
                await self._look(stop)
                self._backoff.succeeded()
            except Exception as error:
                if not (isinstance(error, TransientError | KafkaError) or is_transient(error)):
                    raise
                telemetry.log().warning(telemetry.REPLAY_BACKING_OFF, consumer=self.consumer, error=repr(error)[:500])
                await self._backoff.wait(stop)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)

    async def _look(self, stop: asyncio.Event) -> None:
        if not self._subscribed:
            await self._subscribe()
        async with transaction(self.sessions) as session:
            replay = await replays.running(session, self.consumer)
        if replay is None:
            return
        async with self._alone() as lock:
            if lock is not None:
                await self._take_up(replay, lock, stop)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncSession | None]:
        """A transaction that holds nothing but the lock; None while another worker has it.

        The lock is the transaction's: a frozen worker loses it to PostgreSQL's idle timeout, and another takes over.
        """
        async with transaction(self.sessions) as session:
            lock = text("SELECT pg_try_advisory_xact_lock(:key)")
            yield session if (await session.execute(lock, {"key": _LOCK})).scalar_one() else None

    async def _take_up(self, replay: Replay, lock: AsyncSession, stop: asyncio.Event) -> None:
        telemetry.log().info(telemetry.REPLAY_TAKEN_UP, consumer=self.consumer, replay=str(replay.id))
        error = None
        try:
            async with group_less(self.settings) as kafka:
                run = Run(replay, self.handlers, kafka, self.settings, self.sessions)
                await self._work(run, replay, lock, stop)
                if not run.finished:
                    return
        except FenceLostError:
            return
        except HaltError as halt:
            error = str(halt)
        except Exception as unexpected:
            if isinstance(unexpected, TransientError | KafkaError) or is_transient(unexpected):
                raise
            telemetry.log().error(telemetry.REPLAY_FAILED, consumer=self.consumer, exc_info=unexpected)
            error = f"{type(unexpected).__name__}: see the worker's log"
        async with transaction(self.sessions) as session:
            await replays.end(session, replay.id, f"{self.consumer} worker", error)
        telemetry.log().info(telemetry.REPLAY_ENDED, consumer=self.consumer, replay=str(replay.id), error=error)

    async def _work(self, run: Run, replay: Replay, lock: AsyncSession, stop: asyncio.Event) -> None:
        """Step by step until it is finished, or is no longer to be worked on."""
        await run.prepare()
        while not run.finished:
            rest = time.monotonic() + await run.step()
            while True:
                await lock.execute(text("SELECT 1"))  # still ours: nobody has ended the transaction
                if stop.is_set() or not await self._is_wanted(replay):
                    return
                if (left := rest - time.monotonic()) <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(left, LOOK_SECONDS))

    async def _is_wanted(self, replay: Replay) -> bool:
        """Whether it is to be worked on as before: one whose settings were changed is taken up anew."""
        async with transaction(self.sessions) as session:
            now = await replays.running(session, self.consumer)
        return now is not None and (now.id, now.rate, now.max_errors) == (replay.id, replay.rate, replay.max_errors)

    async def _subscribe(self) -> None:
        """Say which types the handlers want: who plans a replay knows no handlers."""
        events = sorted(self.handlers.events.items())
        values = {
            "consumer": self.consumer,
            "types": [kind for kind, _ in events],
            "topics": [event.topic for _, event in events],
        }
        async with transaction(self.sessions) as session:
            await session.execute(_SUBSCRIBE, values)
        self._subscribed = True
