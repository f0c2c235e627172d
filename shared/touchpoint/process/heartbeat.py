"""A process's report in its service's database, every two seconds: alive, ready or why not, which tasks fail."""

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping
from uuid import uuid4

from touchpoint.base import telemetry
from touchpoint.base.explain import explain
from touchpoint.db import processes
from touchpoint.db.engine import Sessions, transaction
from touchpoint.http.health import Check
from touchpoint.process.recurring import Recurring

LEAVE_SECONDS = 2


async def beat(
    role: str, checks: Mapping[str, Check], tasks: Iterable[Recurring], sessions: Sessions, stop: asyncio.Event
) -> None:
    """Report until `stop` is set, then take the report away: who is stopped on purpose is not missed."""
    process = uuid4()

    async def report() -> None:
        failing = {
            task.name: {"error": task.failing.error, "since": task.failing.since.isoformat()}
            for task in tasks
            if task.failing
        }
        state = processes.State(role, socket.gethostname(), os.getpid(), await _not_ready(checks), failing)
        async with transaction(sessions) as session:
            await processes.report(session, process, state)

    await Recurring("heartbeat", processes.REPORT_SECONDS, report).run(stop)
    try:
        async with asyncio.timeout(LEAVE_SECONDS), transaction(sessions) as session:
            await processes.leave(session, process)
    except Exception as error:  # it will be missed for a day
        telemetry.log().warning(telemetry.TASK_FAILED, task="heartbeat", error=explain(error))


async def _not_ready(checks: Mapping[str, Check]) -> str | None:
    """The first of its readiness checks that has something to say."""
    for name, check in list(checks.items()):  # a part that begins meanwhile may add one
        try:
            answer = await check()
        except Exception as error:  # a bug of the check
            answer = explain(error)
        if answer is not None:
            return f"{name}: {answer}"
    return None
