"""Recurring tasks of a process: each is measured, retried after a failure, and shown by `doctor` while it fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from aiokafka.errors import KafkaError
from sqlalchemy import text

from touchpoint.base import telemetry
from touchpoint.base.errors import TransientError
from touchpoint.base.explain import explain
from touchpoint.base.pausing import pause
from touchpoint.db import locks
from touchpoint.db.engine import Sessions, blames_database, transaction

LOCK_SECONDS = 5
"""Seconds between two checks that a task still holds its lock. They also keep the lock's transaction from being ended
by PostgreSQL's idle timeout."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The error of a task's last run, and since when its runs have failed."""

    error: str
    since: datetime


@dataclass(slots=True)
class Recurring:
    """Runs `work` repeatedly, `seconds` after the last run has ended, until the process stops.

    `work` may return the seconds to wait until the next run. A run that raises is logged, with a traceback unless
    PostgreSQL or Kafka is the cause, and retried after `seconds`. With `alone`, sessions of the service's database, an
    advisory lock lets one process at a time work; another process takes over when that one ends.
    """

    name: str
    seconds: float
    work: Callable[[], Awaitable[float | None]]
    alone: Sessions | None = None
    failing: Failing | None = field(default=None, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Run repeatedly until `stop` is set."""
        telemetry.TASK_FAILING.labels(self.name).set(0)
        while not stop.is_set():
            await pause(stop, await self.once())

    async def once(self) -> float:
        """Run once, now; returns the seconds to wait before the next run."""
        started, wait = time.perf_counter(), None
        try:
            wait = await (self.work() if self.alone is None else self._work_alone(self.alone))
        except Exception as error:
            self._note_failure(error)
        else:
            self.failing = None
        telemetry.TASK_FAILING.labels(self.name).set(self.failing is not None)
        telemetry.TASK_SECONDS.labels(self.name).observe(time.perf_counter() - started)
        return self.seconds if wait is None else wait

    async def _work_alone(self, sessions: Sessions) -> float | None:
        """Work while this process holds the lock, which PostgreSQL takes from a frozen or disconnected process."""
        async with transaction(sessions) as lock:
            if not await locks.acquire(lock, f"task {self.name}"):
                return None
            work = asyncio.ensure_future(self.work())
            try:
                while not work.done():
                    await asyncio.wait({work}, timeout=LOCK_SECONDS)
                    await lock.execute(text("SELECT 1"))
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            return work.result()

    def _note_failure(self, error: Exception) -> None:
        telemetry.TASK_FAILURES.labels(self.name).inc()
        why, before = explain(error), self.failing
        if before is None or before.error != why:  # log each cause once, not at every run
            expected = isinstance(error, KafkaError | TransientError) or blames_database(error)
            log = telemetry.log().warning if expected else partial(telemetry.log().error, exc_info=error)
            log(telemetry.TASK_FAILED, task=self.name, error=why)
        self.failing = Failing(why, before.since if before else datetime.now(UTC))
