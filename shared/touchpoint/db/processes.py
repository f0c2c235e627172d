"""Reports by which the processes of a service prove in its database that they are alive."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

REPORT_SECONDS = 2.0
SILENT_SECONDS = 8.0
"""Seconds without a report after which a process counts as dead or frozen."""

_REPORT = text("""
INSERT INTO processes (id, role, host, pid, not_ready, failing)
VALUES (:id, :role, :host, :pid, :not_ready, CAST(:failing AS jsonb))
    ON CONFLICT (id) DO UPDATE
   SET reported_at = clock_timestamp(), not_ready = excluded.not_ready, failing = excluded.failing
""")
_LEAVE = text("DELETE FROM processes WHERE id = :id OR reported_at < now() - interval '1 day'")
_ALL = text("""
SELECT role, host, pid, started_at, reported_at, not_ready, failing,
       extract(epoch FROM clock_timestamp() - reported_at)::float AS silent
  FROM processes ORDER BY reported_at DESC
""")


@dataclass(frozen=True, slots=True)
class State:
    """The state in a process's report.

    `not_ready`: the message of its first failing readiness check. `failing`: by name, its recurring tasks whose last
    run failed, each with `error` and `since`.
    """

    role: str
    host: str
    pid: int
    not_ready: str | None = None
    failing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def does(self, role: str) -> bool:
        """Whether the process has this role, by itself or as `all`."""
        return self.role in (role, "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(State):
    """A process with its last report. `silent`: seconds since that report."""

    started_at: datetime
    reported_at: datetime
    silent: float

    @property
    def alive(self) -> bool:
        """Whether the last report is at most SILENT_SECONDS old."""
        return self.silent <= SILENT_SECONDS


async def report(session: AsyncSession, process: UUID, state: State) -> None:
    """Store a process's report."""
    values = {**asdict(state), "id": process, "failing": json.dumps(state.failing)}
    await session.execute(_REPORT, values)


async def leave(session: AsyncSession, process: UUID) -> None:
    """Delete the report of a process that stops on purpose, and all reports older than a day."""
    await session.execute(_LEAVE, {"id": process})


async def reported(session: AsyncSession) -> list[Reported]:
    """The last reports of all processes, newest first."""
    return [Reported(**row) for row in (await session.execute(_ALL)).mappings()]


def why_dead(known: Sequence[Reported], role: str) -> str | None:
    """One line that explains why no process of this role is alive; None if one is."""
    of_role = [process for process in known if process.does(role)]
    if any(process.alive for process in of_role):
        return None
    if not of_role:
        return f"no {role} process runs: none has reported, or the last was stopped"
    last = of_role[0]
    return f"no {role} process has reported for {last.silent:,.0f} s (the last: pid {last.pid} on {last.host})"
