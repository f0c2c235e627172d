"""A process's report in its service's database, every two seconds: it is alive, and ready or why not."""

import asyncio
import os
import socket
from collections.abc import Mapping
from uuid import uuid4

from touchpoint.base import telemetry
from touchpoint.base.explain import explain
from touchpoint.base.pausing import pause
from touchpoint.db import processes
from touchpoint.db.engine import Sessions, transaction
from touchpoint.http.health import Check

LEAVE_SECONDS = 2


async def beat(role: str, checks: Mapping[str, Check], sessions: Sessions, stop: asyncio.Event) -> None:
    """Report until `stop` is set, then take the report away: who is stopped on purpose is not missed."""
    process, place, failed = uuid4(), (socket.gethostname(), os.getpid()), ""
    while not stop.is_set():
        not_ready = await _not_ready(checks)
        try:
            async with transaction(sessions) as session:
                await processes.report(session, process, role, place, not_ready)
            failed = ""
        except Exception as error:  # whatever it is, the work itself goes on
            if failed != (failed := explain(error)):
                telemetry.log().warning(telemetry.HEARTBEAT_FAILED, error=failed)
        await pause(stop, processes.REPORT_SECONDS)
    try:
        async with asyncio.timeout(LEAVE_SECONDS), transaction(sessions) as session:
            await processes.leave(session, process)
    except Exception as error:  # it will be missed for a day
        telemetry.log().warning(telemetry.HEARTBEAT_FAILED, error=explain(error))


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
