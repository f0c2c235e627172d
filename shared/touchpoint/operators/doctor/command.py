"""`touchpoint doctor`: the first look of whoever is called at night, and the runbook page to open for what it finds."""

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
"""Whoever has nothing left to read says so every second or two."""
SEEN_IN_DATABASES = ("consumer: halted: ", "consumer: paused: ", "database: PostgreSQL takes no writes")
"""Why a process may be not ready, where that has a finding of its own."""
LATE_SECONDS = 60
"""So long a consumer may be behind the end of its topics, and an event wait in an outbox."""
KAFKA_SECONDS = 10
"""A broker that hangs lets its clients in and says nothing; whoever is called at night has not got a minute."""

RUNBOOKS = "docs/runbooks"
ROLES = ("consumer", "worker")
"""Without a process of each nothing is applied, sent or timed. The API's processes are watched by who calls them."""
MARKS = {
    (False, False): typer.style("✓", fg="green"),
    (True, True): typer.style("!", fg="yellow"),
    (True, False): typer.style("✗", fg="red"),
}
"""By whether a page helps, and whether it is only a warning."""


class Finding(NamedTuple):
    """What one check saw. `page`: the runbook to open, None when all is well. `warning`: it works all the same."""

    where: str
    said: str
    page: str | None = None
    warning: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something does not work."""
        return self.page is not None and not self.warning


_BEHIND = text("""
SELECT consumer, extract(epoch FROM clock_timestamp() - min(coalesce(read_through, updated_at)))::float AS seconds
  FROM offsets GROUP BY consumer
""")
READ_ONLY = "it takes no writes: it is a standby, or default_transaction_read_only is on"
_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")
_OUTBOX = text("""
SELECT coalesce(max(id) - min(id) + 1, 0) AS rows,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS seconds,
       (SELECT count(*) FROM outbox WHERE parked IS NOT NULL) AS parked
  FROM outbox WHERE parked IS NULL
""")


def doctor(database: Database = "", as_json: Json = False) -> None:
    """Look at processes, Kafka, databases, consumers, dead letters and outboxes; name the runbook for what is wrong.

    Whether events were missed is not looked for: `touchpoint verify` does that.

    Exit code: 0 everything works, 1 something is wrong.

    \b
    Examples:
      touchpoint doctor
      DATABASE_URL=postgresql://…/feedback KAFKA_BOOTSTRAP_SERVERS=kafka:9092 touchpoint doctor --json
    """
    found = asyncio.run(examine(database))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in found]))
    else:
        _print(found)
    if any(finding.wrong for finding in found):
        raise typer.Exit(1)


async def examine(database: str) -> list[Finding]:
    """All checks, on the database named or on those of the stack that runs here."""
    databases = [await _database(dsn) for dsn in dsns(database)]
    here = [] if database else await _processes_here()
    return [*here, *await _kafka(), *(finding for each in databases for finding in each)]


async def _processes_here() -> list[Finding]:
    """The processes of `touchpoint up` on this machine."""
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
    topics = [Finding(one.topic, str(one), "topic-changed", not one.stops) for one in wrong]
    return [_brokers(where, partitions, held), *(topics or [Finding("topics", "all are set as they must be")])]


def _required(settings: KafkaSettings, names: Sequence[str]) -> list[str]:
    """The services' topics, which must be there, and of dead-letter topics those that are."""
    ours = [settings.topic_prefix + topic for topic in WRITERS]
    return [*ours, *(name for name in names if is_dead_letters(name) and name.startswith(tuple(ours)))]


def _brokers(where: str, partitions: Sequence[dict[str, Any]], held: Mapping[Place, int]) -> Finding:
    leaderless = sum(each["leader"] < 0 for each in partitions)
    thin = sum(len(each["isr"]) < len(each["replicas"]) for each in partitions)
    if leaderless or thin:
        said = f"of {len(partitions)} partitions {leaderless} have no leader, {thin} lack a replica"
        return Finding(where, said, "broker-down")
    if held:
        (topic, number), first = min(held.items())
        said = f"{topic}/{number}: a transaction is open since record {first}, nothing behind it can be read"
        return Finding(where, said + (f" ({len(held)} partitions)" if len(held) > 1 else ""), "lag-grows")
    return Finding(where, f"all {len(partitions)} partitions have their leader and replicas")


async def _database(dsn: str) -> list[Finding]:
    where = f"PostgreSQL {urlsplit(dsn).path[1:]}"
    try:
        flaws = await requirements.look(dsn)
        found = await in_one(dsn, _consumers_and_outbox)
    except UnreachableError as error:
        return [Finding(where, str(error), "database-down")]
    except UsageError as error:
        return [Finding(where, str(error), "database-settings")]
    return [*(Finding(where, flaw.text, "database-settings", not flaw.fatal) for flaw in flaws), *found]


async def _consumers_and_outbox(session: AsyncSession) -> list[Finding]:
    standing = await consumers.standing(session)
    service = ", ".join(one["consumer"] for one in standing) or "a service that has never run"
    try:
        await clock.require_agreement(session)
    except ClocksDifferError as error:  # then no age that follows from it says anything
        return [Finding("PostgreSQL's clock", f"{service}: {error}", "clocks-late")]
    behind = {row.consumer: row.seconds for row in await session.execute(_BEHIND)}
    outbox = (await session.execute(_OUTBOX)).one()
    if await session.scalar(_READ_ONLY):  # then nothing moves, and no process can report itself
        return [Finding("PostgreSQL", f"{service}: {READ_ONLY}", "database-settings")]
    return [
        *(finding for one in standing for finding in (_consumer(one, behind[one["consumer"]]), _dead_letters(one))),
        *(_processes(service, await processes.reported(session)) if standing else []),
        _relay(service, outbox.rows, outbox.seconds, outbox.parked),
    ]


def _processes(service: str, known: Sequence[Reported]) -> list[Finding]:
    """Whether processes of every role that is needed are alive, and ready."""
    where = f"{service} processes"
    alive = [process for process in known if process.alive]
    roles = dict.fromkeys([*ROLES, *(process.role for process in known if process.role not in ("api", "all"))])
    found = [Finding(where, why, "process-down") for role in roles if (why := processes.why_dead(known, role))]
    found += [
        Finding(where, f"{process.role}, pid {process.pid} on {process.host}, is not ready: {why}", "process-down")
        for process in alive
        if (why := process.not_ready) and not why.startswith(SEEN_IN_DATABASES)
    ]
    return [*(found or [Finding(where, f"{len(alive)} alive and ready")]), *_tasks(service, alive)]


def _tasks(service: str, alive: Sequence[Reported]) -> list[Finding]:
    """Recurring tasks that have failed again and again, each named once."""
    failing = {name: each for process in alive for name, each in process.failing.items()}
    since = {name: datetime.fromisoformat(each["since"]) for name, each in failing.items()}
    late = datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)
    return [
        Finding(f"{service} task {name}", f"fails since {since[name]:%H:%M:%S} UTC: {each['error']}", "task-fails")
        for name, each in failing.items()
        if since[name] < late
    ]


def _consumer(one: dict[str, Any], seconds: float) -> Finding:
    where = f"{one['consumer']} consumer"
    if one["state"] != "running":
        page = "consumer-halted" if one["state"] == "halted" else "consumer-paused"
        return Finding(where, f"{one['state']} since {one['since']:%Y-%m-%d %H:%M:%S}: {one['reason']}", page)
    if not one["alive"]:
        return Finding(where, f"does not run, {seconds:,.0f} s behind: see its processes", "process-down")
    if seconds > LATE_SECONDS:
        return Finding(where, f"{seconds:,.0f} s behind: it is slow or stuck", "lag-grows")
    return Finding(where, "running, level" if seconds < LEVEL_SECONDS else f"running, {seconds:.1f} s behind")


def _dead_letters(one: dict[str, Any]) -> Finding:
    where, count = f"{one['consumer']} dead letters", one["dead_letters"]
    return Finding(where, f"{count:,} open", "dead-letters-rise") if count else Finding(where, "none open")


def _relay(service: str, rows: int, seconds: float, parked: int) -> Finding:
    where = f"{service} outbox"
    if parked:
        return Finding(where, f"{parked:,} parked: Kafka can never take them; {rows:,} events wait", "outbox-grows")
    if seconds > LATE_SECONDS:
        return Finding(where, f"{rows:,} events wait, the oldest for {seconds:,.0f} s", "outbox-grows")
    return Finding(where, f"{rows:,} events wait")


def _print(found: Sequence[Finding]) -> None:
    """A line for each finding, wrapped under itself; what is wrong has its page below."""
    for where, said, page, warning in found:
        lines = wrapped(f"{where}: {said}", "  ").removeprefix("  ")
        typer.echo(f"{MARKS[bool(page), warning]} {lines}" + (f"\n  → {RUNBOOKS}/{page}.md" if page else ""))
    wrong = sum(finding.wrong for finding in found)
    typer.echo(f"{wrong} of {len(found)} checks found something wrong." if wrong else "Nothing is wrong.")
    typer.echo("Were events missed? `touchpoint verify` looks.")
