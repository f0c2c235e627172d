"""`touchpoint consumer`: see how consumers stand, pause and resume them, with the reason beside it."""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import parsing as words
from touchpoint.base.errors import NotFoundError, UsageError
from touchpoint.base.lines import wrapped
from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.kafka import passing
from touchpoint.operators.reach import Database, Json, in_each, operator

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Consumers: whether they work, and why not. A halted one has stopped itself and waits for a person.",
)

TIME = "%Y-%m-%d %H:%M:%S"
STATES = {"running": "running", "paused": "PAUSED", "halted": "HALTED: it has stopped itself"}

Name = Annotated[str, typer.Argument(help="The consumer, as `touchpoint consumer list` shows it: feedback-svc.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the consumer's state and shown to whoever looks next.")]


@app.command("list")
def list_consumers(database: Database = "", as_json: Json = False) -> None:
    """Show every consumer: its state and why, whether a process of it is alive, its dead letters, what to do."""
    found = in_each(database, consumers.standing)
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    for one in found:
        typer.echo("\n".join(_shown(one)))


def _shown(one: dict[str, Any]) -> Iterator[str]:
    """A consumer as people read it, in lines of at most 80 characters."""
    since = f" since {one['since']:{TIME}}" if one["since"] else ""
    down = one["state"] == "running" and not one["alive"]
    yield f"{one['consumer']:<15} {'DOWN: no process of it is alive' if down else STATES[one['state']] + since}"
    yield f"  process       {_process(one)}"
    applied = f"{one['last_applied_at']:{TIME}}" if one["last_applied_at"] else "nothing yet"
    yield f"  last applied  {applied}"
    yield f"  dead letters  {one['dead_letters']:,} open" + ("  → touchpoint dlq stats" if one["dead_letters"] else "")
    if one["reason"]:
        label = "resumed" if one["state"] == "running" else "reason"
        yield wrapped(f"  {label:<12}  {one['reason']}", hanging=" " * 16)
    if one["state"] != "running":
        if one["state"] == "halted":
            yield "  what to do    docs/runbooks/consumer-halted.md; once the cause is gone:"
        yield f'  to go on      touchpoint consumer resume {one["consumer"]} --reason "…"'


def _process(one: dict[str, Any]) -> str:
    if one["alive"]:
        return "alive"
    if one["last_reported_at"] is None:
        return "NONE RUNS  → docs/runbooks/process-down.md"
    silent = datetime.now(UTC) - one["last_reported_at"]
    return f"DEAD: none has reported for {silent.total_seconds():,.0f} s  → docs/runbooks/process-down.md"


@app.command()
def pause(name: Name, *, reason: Reason, database: Database = "") -> None:
    """Stop a consumer from applying events, in all its processes, within a second; nothing is lost meanwhile."""
    new = ConsumerState("paused", reason)
    _change(database, name, new, lambda session: consumers.change(session, name, new, operator()))


@app.command()
def resume(
    name: Name,
    *,
    reason: Reason,
    skip: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Let each of its processes make so many dead letters first.")
    ] = 0,
    past: Annotated[
        str, typer.Option(help="Go on behind these offsets, which it cannot read: touchpoints.v1/3/1042-1049.")
    ] = "",
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC/PARTITION/FIRST-LAST",
            help="Go on without these records, which Kafka has lost; once for each partition. What a command without "
            "it names.",
        ),
    ] = None,
    database: Database = "",
) -> None:
    """Let a paused or halted consumer go on from where it stopped.

    It halts again if the cause is still there. When that cannot be mended now, --skip lets it pass so many events it
    cannot handle, and --past the offsets it halted at because they cannot be read. They are kept as dead letters.
    Where Kafka has lost records, it goes on only with --accept-loss, at the first offset that holds another record:
    docs/runbooks/log-lost.md.

    \b
    Examples:
      touchpoint consumer resume metrics-svc --reason "0.4.1 is deployed"
      touchpoint consumer resume metrics-svc --reason "broken events of the shop, asked them" --skip 200
      touchpoint consumer resume metrics-svc --reason "a disk broke, INC-17" --past touchpoints.v1/3/1042-1049
      touchpoint consumer resume metrics-svc --reason "disk of broker 2" --accept-loss touchpoints.v1/5/4801-4807
    """
    span = words.span(past) if past else None
    if past and span is None:
        raise UsageError(f"{past!r} names no offsets: write topic/partition/first-last, as the halted consumer does")
    new = ConsumerState("running", reason, skip)

    async def change(session: AsyncSession) -> str:
        return await passing.resume(session, name, new, operator(), past=span, accept_loss=accept_loss or ())

    _change(database, name, new, change)


def _change(database: str, name: str, new: ConsumerState, work: Callable[[AsyncSession], Awaitable[str]]) -> None:
    async def change(session: AsyncSession) -> list[str]:
        try:
            return [await work(session)]
        except NotFoundError:
            return []  # another service's

    before = in_each(database, change)
    if not before:
        raise UsageError(f"no consumer {name} here: see `touchpoint consumer list`")
    typer.echo(f"{name}: {before[0]} → {new.state} ({new.reason})")
