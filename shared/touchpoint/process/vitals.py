"""Metrics of every process about itself: its version, its event loop, its connections to PostgreSQL."""

import asyncio
import platform
from importlib.metadata import version

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from touchpoint.base import telemetry
from touchpoint.base.pausing import pause

PAUSE_SECONDS = 0.25


def tell_build() -> None:
    """Export the versions of Touchpoint and Python as a metric."""
    telemetry.BUILD.info({"version": version("touchpoint"), "python": platform.python_version()})


def watch_pool(name: str, engine: AsyncEngine) -> None:
    """Export the size and use of a connection pool as metrics."""
    pool = engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    telemetry.POOL_MAX.labels(name).set(pool.size())
    telemetry.POOL_IN_USE.labels(name).set_function(pool.checkedout)


async def watch_event_loop(stop: asyncio.Event) -> None:
    """Measure the event loop's lag until `stop` is set: how much longer than asked each sleep takes."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + PAUSE_SECONDS
        await pause(stop, PAUSE_SECONDS)
        if not stop.is_set():
            telemetry.LOOP_LAG.observe(max(0.0, loop.time() - due))
