"""The heartbeat: a process reports its readiness and failing tasks to its service's database every two seconds."""

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
    """Report until `stop` is set. Then delete the report, as a process that stops on purpose must not count as dead."""
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
    except Exception as error:  # the report stays, and the process counts as dead for a day
        telemetry.log().warning(telemetry.TASK_FAILED, task="heartbeat", error=explain(error))


async def _not_ready(checks: Mapping[str, Check]) -> str | None:
    """The name and message of the first failing readiness check; None if all pass."""
    for name, check in list(checks.items()):  # a copy, as a part that starts meanwhile may add a check
        try:
            failure = await check()
        except Exception as error:  # a bug in the check
            failure = explain(error)
        if failure is not None:
            return f"{name}: {failure}"
    return None
