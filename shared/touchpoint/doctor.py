"""`touchpoint doctor`: the first look of whoever is called at night, and the runbook page to open for what it finds."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.topics import WRITERS
from touchpoint.db import consumers
from touchpoint.errors import UsageError
from touchpoint.kafka import admin, log
from touchpoint.reach import Database, Json, dsns, in_one, kafka

LEVEL_SECONDS = 5
"""Whoever has nothing left to read says so every second or two."""
LATE_SECONDS = 60
"""So long a consumer may be behind the end of its topics, and an event wait in an outbox."""
KAFKA_SECONDS = 10
"""A broker that hangs lets its clients in and says nothing; whoever is called at night has not got a minute."""

RUNBOOKS = "docs/runbooks"


class Finding(NamedTuple):
    """What one check saw. `page`: the runbook to open, None when all is well."""

    where: str
    said: str
    page: str | None = None


_BEHIND = text("""
SELECT consumer, extract(epoch FROM clock_timestamp() - min(coalesce(read_through, updated_at)))::float AS seconds
  FROM offsets GROUP BY consumer
""")
_OUTBOX = text("""
SELECT coalesce(max(id) - min(id) + 1, 0) AS rows,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS seconds FROM outbox
""")


def doctor(database: Database = "", as_json: Json = False) -> None:
    """Look at Kafka, the databases, consumers, dead letters and outboxes; name the runbook page for what is wrong.

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
    if any(finding.page for finding in found):
        raise typer.Exit(1)


async def examine(database: str) -> list[Finding]:
    """All checks, on the database named or on those of the stack that runs here."""
    databases = [await _database(dsn) for dsn in dsns(database)]
    return [await _kafka(), *(finding for each in databases for finding in each)]


async def _kafka() -> Finding:
    settings = kafka()
    where = f"Kafka {settings.bootstrap_servers}"
    try:
        async with asyncio.timeout(KAFKA_SECONDS), admin.connected(settings) as client:
            ours = [name for name in await client.list_topics() if name.startswith(settings.topic_prefix)]
            partitions = [each for topic in await client.describe_topics(ours) for each in topic["partitions"]]
            async with log.connected(settings, WRITERS) as reader:
                held = await reader.held_back(WRITERS)
    except UsageError as error:
        return Finding(where, str(error), "broker-down")
    except TimeoutError:
        return Finding(where, f"does not answer within {KAFKA_SECONDS} s", "broker-down")
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
    try:
        return await in_one(dsn, _consumers_and_outbox)
    except UsageError as error:
        return [Finding("PostgreSQL", str(error), "database-down")]


async def _consumers_and_outbox(session: AsyncSession) -> list[Finding]:
    behind = {row.consumer: row.seconds for row in await session.execute(_BEHIND)}
    standing = await consumers.standing(session)
    service = ", ".join(one["consumer"] for one in standing) or "a service that has never run"
    outbox = (await session.execute(_OUTBOX)).one()
    return [
        *(finding for one in standing for finding in (_consumer(one, behind[one["consumer"]]), _dead_letters(one))),
        _relay(service, outbox.rows, outbox.seconds),
    ]


def _consumer(one: dict[str, Any], seconds: float) -> Finding:
    where = f"{one['consumer']} consumer"
    if one["state"] != "running":
        page = "consumer-halted" if one["state"] == "halted" else "consumer-paused"
        return Finding(where, f"{one['state']} since {one['since']:%Y-%m-%d %H:%M:%S}: {one['reason']}", page)
    if seconds > LATE_SECONDS:
        return Finding(where, f"{seconds:,.0f} s behind: it is slow, stuck, or does not run", "lag-grows")
    return Finding(where, "running, level" if seconds < LEVEL_SECONDS else f"running, {seconds:.1f} s behind")


def _dead_letters(one: dict[str, Any]) -> Finding:
    where, count = f"{one['consumer']} dead letters", one["dead_letters"]
    return Finding(where, f"{count:,} open", "dead-letters-rise") if count else Finding(where, "none open")


def _relay(service: str, rows: int, seconds: float) -> Finding:
    where = f"{service} outbox"
    if seconds > LATE_SECONDS:
        return Finding(where, f"{rows:,} events wait, the oldest for {seconds:,.0f} s", "outbox-grows")
    return Finding(where, f"{rows:,} events wait")


def _print(found: Sequence[Finding]) -> None:
    width = max(len(finding.where) for finding in found)
    for where, said, page in found:
        mark = typer.style("✗", fg="red") if page else typer.style("✓", fg="green")
        typer.echo(f"{mark} {where:<{width}}  {said}" + (f"  → {RUNBOOKS}/{page}.md" if page else ""))
    typer.echo("Were events missed? `touchpoint verify` tells.")
