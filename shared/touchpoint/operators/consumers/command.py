"""`touchpoint consumer`: list consumers with their state, pause and resume them. The reason is kept with the state."""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import parsing
from touchpoint.base.errors import NotFoundError, UsageError
from touchpoint.base.lines import wrapped
from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.kafka import passing
from touchpoint.operators.reach import Database, Json, in_each, operator

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, pause and resume consumers.\n\n"
    "A consumer is running, paused (by an operator) or halted: it stopped by itself, because it cannot apply an event, "
    "and continues only after `touchpoint consumer resume`.",
)

TIME = "%Y-%m-%d %H:%M:%S"
STATES = {"running": "running", "paused": "PAUSED", "halted": "HALTED: stopped by itself"}

Name = Annotated[
    str, typer.Argument(help="Name of the consumer, as `touchpoint consumer list` shows it: feedback-svc.")
]
Reason = Annotated[
    str, typer.Option(help="Why you do this; shown by `touchpoint consumer list` and kept in the audit trail.")
]


@app.command("list")
def list_consumers(database: Database = "", as_json: Json = False) -> None:
    """Show every consumer: state and reason, whether a process is alive, open dead letters, and what to do.

    \b
    Examples:
      touchpoint consumer list
      touchpoint consumer list --json
    """
    rows = in_each(database, consumers.standing)
    if as_json:
        typer.echo(json.dumps(rows, default=str))
        return
    for consumer in rows:
        typer.echo("\n".join(_shown(consumer)))


def _shown(consumer: dict[str, Any]) -> Iterator[str]:
    """The lines printed for a consumer, at most 80 characters wide."""
    since = f" since {consumer['since']:{TIME}}" if consumer["since"] else ""
    down = consumer["state"] == "running" and not consumer["alive"]
    yield f"{consumer['consumer']:<15} {'DOWN: no process is alive' if down else STATES[consumer['state']] + since}"
    yield f"  process       {_process(consumer)}"
    applied = f"{consumer['last_applied_at']:{TIME}}" if consumer["last_applied_at"] else "nothing yet"
    yield f"  last applied  {applied}"
    letters = consumer["dead_letters"]
    yield f"  dead letters  {letters:,} open" + ("  → touchpoint dlq stats" if letters else "")
    if consumer["reason"]:
        label = "resumed" if consumer["state"] == "running" else "reason"
        yield wrapped(f"  {label:<12}  {consumer['reason']}", hanging=" " * 16)
    if consumer["state"] != "running":
        if consumer["state"] == "halted":
            yield "  what to do    docs/runbooks/consumer-halted.md; once the cause is fixed:"
        yield f'  to resume     touchpoint consumer resume {consumer["consumer"]} --reason "…"'


def _process(consumer: dict[str, Any]) -> str:
    if consumer["alive"]:
        return "alive"
    if consumer["last_reported_at"] is None:
        return "NONE RUNS  → docs/runbooks/process-down.md"
    silent = datetime.now(UTC) - consumer["last_reported_at"]
    return f"DEAD: last report {silent.total_seconds():,.0f} s ago  → docs/runbooks/process-down.md"


@app.command()
def pause(name: Name, *, reason: Reason, database: Database = "") -> None:
    """Stop a consumer from applying events, in all its processes, within one second.

    No event is lost: Kafka keeps them, and the consumer continues with `touchpoint consumer resume`.

    \b
    Example:
      touchpoint consumer pause metrics-svc --reason "database maintenance, OPS-81"
    """
    new = ConsumerState("paused", reason)
    _change(database, name, new, lambda session: consumers.change(session, name, new, operator()))


@app.command()
def resume(
    name: Name,
    *,
    reason: Reason,
    skip: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Number of events each of its processes may write to the dead letters before it halts again.",
        ),
    ] = 0,
    past: Annotated[
        str,
        typer.Option(
            metavar="TOPIC/PARTITION/FIRST-LAST",
            help="Skip these offsets, which the consumer cannot read: touchpoints.v1/3/1042-1049.",
        ),
    ] = "",
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC/PARTITION/FIRST-LAST",
            help="Continue without these records, which Kafka has lost. Repeat the option for each partition. "
            "Without it, the command fails and names the records.",
        ),
    ] = None,
    database: Database = "",
) -> None:
    """Let a paused or halted consumer continue where it stopped. It halts again if the cause is still there.

    If the cause cannot be fixed now: --skip allows a number of events that the handler fails on, --past skips offsets
    that cannot be read. Both are kept as dead letters. If Kafka has lost records, the consumer continues only with
    --accept-loss, at the first offset that still holds a record: docs/runbooks/log-lost.md.

    \b
    Examples:
      touchpoint consumer resume metrics-svc --reason "0.4.1 is deployed"
      touchpoint consumer resume metrics-svc --reason "shop sends broken events, OPS-80" --skip 200
      touchpoint consumer resume metrics-svc --reason "a disk broke, INC-17" --past touchpoints.v1/3/1042-1049
      touchpoint consumer resume metrics-svc --reason "disk of broker 2" --accept-loss touchpoints.v1/5/4801-4807

    Exit codes: 0 resumed, 2 refused or unknown consumer; the message says why.
    """
    span = parsing.span(past) if past else None
    if past and span is None:
        raise UsageError(
            f"{past!r} is not a range of offsets: write topic/partition/first-last, as in the consumer's halt reason"
        )
    new = ConsumerState("running", reason, skip)

    async def change(session: AsyncSession) -> str:
        return await passing.resume(session, name, new, operator(), past=span, accept_loss=accept_loss or ())

    _change(database, name, new, change)


def _change(database: str, name: str, new: ConsumerState, work: Callable[[AsyncSession], Awaitable[str]]) -> None:
    async def change(session: AsyncSession) -> list[str]:
        try:
            return [await work(session)]
        except NotFoundError:
            return []  # the consumer belongs to another service's database

    before = in_each(database, change)
    if not before:
        raise UsageError(f"no consumer {name} here: see `touchpoint consumer list`")
    typer.echo(f"{name}: {before[0]} → {new.state} ({new.reason})")
