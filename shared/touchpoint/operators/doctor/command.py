"""`touchpoint doctor`: checks the whole system and names the runbook page for each fault.

It is the first command for the engineer on call.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import typer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import UnreachableError, UsageError
from touchpoint.base.lines import wrapped
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import WRITERS, is_dead_letters
from touchpoint.db import clock, consumers, processes, requirements
from touchpoint.db.clock import ClocksDifferError
from touchpoint.db.offsets import Place
from touchpoint.db.processes import Reported
from touchpoint.kafka import admin, log
from touchpoint.kafka.requirements import deviations
from touchpoint.operators.reach import Database, Json, dsns, in_one, kafka, local_stack

LEVEL_SECONDS = 5
"""Below this lag in seconds a consumer counts as up to date: an idle one stores its position every second or two."""
SEEN_IN_DATABASES = ("consumer: halted: ", "consumer: paused: ", "database: PostgreSQL takes no writes")
"""Beginnings of reasons why a process is not ready that another check reports already."""
LATE_SECONDS = 60
"""Limit in seconds of a consumer's lag, of an event's wait in the outbox, and of a task that keeps failing."""
KAFKA_SECONDS = 10
"""Timeout of Kafka's checks: a broker that hangs accepts connections and never answers."""

RUNBOOKS = "docs/runbooks"
ROLES = ("consumer", "worker")
"""Roles that need a live process: without them no event is applied or sent and no task runs.

The role `api` is not checked: its callers notice when it is down.
"""
MARKS = {
    (False, False): typer.style("✓", fg="green"),
    (True, True): typer.style("!", fg="yellow"),
    (True, False): typer.style("✗", fg="red"),
}
"""The mark before a finding, by (names a runbook page, is only a warning)."""


class Finding(NamedTuple):
    """The result of one check; `doctor --json` prints its fields.

    `where`: what was checked. `text`: the result in words. `page`: the runbook page to open, None if the check passed.
    `warning`: the system works, but less safely than it should.
    """

    where: str
    text: str
    page: str | None = None
    warning: bool = False

    @property
    def wrong(self) -> bool:
        """Whether the check failed; a warning is no failure."""
        return self.page is not None and not self.warning


_BEHIND = text("""
SELECT consumer, extract(epoch FROM clock_timestamp() - min(coalesce(read_through, updated_at)))::float AS seconds
  FROM offsets GROUP BY consumer
""")
READ_ONLY = "PostgreSQL takes no writes: it is a standby, or default_transaction_read_only is on"
_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")
_OUTBOX = text("""
SELECT coalesce(max(id) - min(id) + 1, 0) AS rows,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS seconds,
       (SELECT count(*) FROM outbox WHERE parked IS NOT NULL) AS parked
  FROM outbox WHERE parked IS NULL
""")


def doctor(database: Database = "", as_json: Json = False) -> None:
    """Check processes, Kafka, databases, consumers, dead letters and outboxes; name the runbook page for each fault.

    Takes seconds and changes nothing. It does not check whether every event was applied: `touchpoint verify` does.

    \b
    Each line begins with a mark:
      ✓  the check passed
      !  a warning: the system works, but less safely than it should
      ✗  the check failed; the line below names the runbook page to open

    \b
    Exit codes:
      0  everything works, perhaps with warnings
      1  at least one check failed
      2  usage error, such as no local stack and no --database-url

    \b
    Examples:
      touchpoint doctor
      DATABASE_URL=postgresql://…/feedback KAFKA_BOOTSTRAP_SERVERS=kafka:9092 touchpoint doctor --json
    """
    findings = asyncio.run(examine(database))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        _print(findings)
    if any(finding.wrong for finding in findings):
        raise typer.Exit(1)


async def examine(database: str) -> list[Finding]:
    """Run all checks on the given database, or on those of the local stack if none is given."""
    databases = [await _database(dsn) for dsn in dsns(database)]
    here = [] if database else await _processes_here()
    return [*here, *await _kafka(), *(finding for each in databases for finding in each)]


async def _processes_here() -> list[Finding]:
    """Check the processes of the local stack (`touchpoint up`)."""
    where, stack = "processes of touchpoint up", await local_stack()
    wrong = [
        Finding(f"{process['name']} process", process["wrong"], "process-down")
        for process in stack["processes"]
        if process["wrong"] and not process["wrong"].startswith(SEEN_IN_DATABASES)
    ]
    return wrong or [Finding(where, f"all {len(stack['processes'])} run")]


async def _kafka() -> list[Finding]:
    settings = kafka()
    where = f"Kafka {settings.bootstrap_servers}"
    try:
        async with asyncio.timeout(KAFKA_SECONDS), admin.connected(settings) as client:
            ours = [name for name in await client.list_topics() if name.startswith(settings.topic_prefix)]
            partitions = [each for topic in await client.describe_topics(ours) for each in topic["partitions"]]
            async with log.connected(settings, WRITERS) as reader:
                held = await reader.held_back(WRITERS)
            wrong = await deviations(client, settings, _required(settings, ours))
    except UsageError as error:
        return [Finding(where, str(error), "broker-down")]
    except TimeoutError:
        return [Finding(where, f"does not answer within {KAFKA_SECONDS} s", "broker-down")]
    topics = [Finding(each.topic, str(each), "topic-changed", not each.stops) for each in wrong]
    return [_brokers(where, partitions, held), *(topics or [Finding("topics", "all have the required settings")])]


def _required(settings: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Names of the topics to check: all topics of the services, and those dead-letter topics that exist."""
    ours = [settings.topic_prefix + topic for topic in WRITERS]
    return [*ours, *(name for name in names if is_dead_letters(name) and name.startswith(tuple(ours)))]


def _brokers(where: str, partitions: Sequence[dict[str, Any]], held: Mapping[Place, int]) -> Finding:
    leaderless = sum(each["leader"] < 0 for each in partitions)
    thin = sum(len(each["isr"]) < len(each["replicas"]) for each in partitions)
    if leaderless or thin:
        text = f"of {len(partitions)} partitions {leaderless} have no leader, {thin} lack an in-sync replica"
        return Finding(where, text, "broker-down")
    if held:
        (topic, number), first = min(held.items())
        text = f"{topic}/{number}: a transaction is open since offset {first}; no later record can be read"
        return Finding(where, text + (f" ({len(held)} partitions)" if len(held) > 1 else ""), "lag-grows")
    return Finding(where, f"all {len(partitions)} partitions have a leader and all replicas in sync")


async def _database(dsn: str) -> list[Finding]:
    where = f"PostgreSQL {urlsplit(dsn).path[1:]}"
    try:
        flaws = await requirements.look(dsn)
        findings = await in_one(dsn, _consumers_and_outbox)
    except UnreachableError as error:
        return [Finding(where, str(error), "database-down")]
    except UsageError as error:
        return [Finding(where, str(error), "database-settings")]
    return [*(Finding(where, flaw.text, "database-settings", not flaw.fatal) for flaw in flaws), *findings]


async def _consumers_and_outbox(session: AsyncSession) -> list[Finding]:
    standing = await consumers.standing(session)
    service = ", ".join(row["consumer"] for row in standing) or "a service that has never run"
    try:
        await clock.require_agreement(session)
    except ClocksDifferError as error:  # the lag and ages below are computed from the clocks and would be wrong
        return [Finding("PostgreSQL's clock", f"{service}: {error}", "clocks-late")]
    behind = {row.consumer: row.seconds for row in await session.execute(_BEHIND)}
    outbox = (await session.execute(_OUTBOX)).one()
    if await session.scalar(_READ_ONLY):  # processes cannot report either, so that all would look dead
        return [Finding("PostgreSQL", f"{service}: {READ_ONLY}", "database-settings")]
    return [
        *(finding for row in standing for finding in (_consumer(row, behind[row["consumer"]]), _dead_letters(row))),
        *(_processes(service, await processes.reported(session)) if standing else []),
        _relay(service, outbox.rows, outbox.seconds, outbox.parked),
    ]


def _processes(service: str, known: Sequence[Reported]) -> list[Finding]:
    """Check that each role has a live process and that all live processes are ready."""
    where = f"{service} processes"
    alive = [process for process in known if process.alive]
    roles = dict.fromkeys([*ROLES, *(process.role for process in known if process.role not in ("api", "all"))])
    faults = [Finding(where, why, "process-down") for role in roles if (why := processes.why_dead(known, role))]
    faults += [
        Finding(where, f"{process.role}, pid {process.pid} on {process.host}, is not ready: {why}", "process-down")
        for process in alive
        if (why := process.not_ready) and not why.startswith(SEEN_IN_DATABASES)
    ]
    return [*(faults or [Finding(where, f"{len(alive)} alive and ready")]), *_tasks(service, alive)]


def _tasks(service: str, alive: Sequence[Reported]) -> list[Finding]:
    """Recurring tasks whose runs have all failed for more than LATE_SECONDS, each named once."""
    failing = {name: each for process in alive for name, each in process.failing.items()}
    since = {name: datetime.fromisoformat(each["since"]) for name, each in failing.items()}
    late = datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)
    return [
        Finding(f"{service} task {name}", f"failing since {since[name]:%H:%M:%S} UTC: {each['error']}", "task-fails")
        for name, each in failing.items()
        if since[name] < late
    ]


def _consumer(row: dict[str, Any], lag: float) -> Finding:
    """`lag` in seconds."""
    where = f"{row['consumer']} consumer"
    if row["state"] != "running":
        page = "consumer-halted" if row["state"] == "halted" else "consumer-paused"
        return Finding(where, f"{row['state']} since {row['since']:%Y-%m-%d %H:%M:%S}: {row['reason']}", page)
    if not row["alive"]:
        return Finding(where, f"no live process; consumer lag: {lag:,.0f} s", "process-down")
    if lag > LATE_SECONDS:
        return Finding(where, f"consumer lag: {lag:,.0f} s; it is slow or stuck", "lag-grows")
    return Finding(where, "running, no lag" if lag < LEVEL_SECONDS else f"running, consumer lag: {lag:.1f} s")


def _dead_letters(row: dict[str, Any]) -> Finding:
    where, count = f"{row['consumer']} dead letters", row["dead_letters"]
    return Finding(where, f"{count:,} open", "dead-letters-rise") if count else Finding(where, "none open")


def _relay(service: str, rows: int, seconds: float, parked: int) -> Finding:
    where = f"{service} outbox"
    if parked:
        return Finding(where, f"{parked:,} parked (too large for Kafka); {rows:,} events wait", "outbox-grows")
    if seconds > LATE_SECONDS:
        return Finding(where, f"{rows:,} events wait, the oldest for {seconds:,.0f} s", "outbox-grows")
    return Finding(where, f"{rows:,} events wait")


def _print(findings: Sequence[Finding]) -> None:
    """Print each finding, wrapped with an indent, and below a fault or warning its runbook page."""
    for finding in findings:
        lines = wrapped(f"{finding.where}: {finding.text}", "  ").removeprefix("  ")
        page = f"\n  → {RUNBOOKS}/{finding.page}.md" if finding.page else ""
        typer.echo(f"{MARKS[bool(finding.page), finding.warning]} {lines}{page}")
    wrong = sum(finding.wrong for finding in findings)
    typer.echo(f"{wrong} of {len(findings)} checks failed." if wrong else "Nothing is wrong.")
    typer.echo("To check that no event was missed: touchpoint verify")
