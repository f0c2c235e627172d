"""`touchpoint dlq`: dead letters counted by cause, listed, one in full; redrive and discard."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Any, Literal, NoReturn

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import parsing
from touchpoint.base.errors import UsageError
from touchpoint.db import dead_letters
from touchpoint.db.dead_letters import Selection
from touchpoint.kafka import lookup
from touchpoint.operators.dead_letters import page
from touchpoint.operators.reach import Database, Json, Since, Until, in_each, kafka, operator
from touchpoint.operators.replays.command import watch
from touchpoint.replay import plan

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Dead letters: events that a consumer could not read or handle.\n\n"
    "They are kept until an operator redrives them (the handlers get them again) or discards them (closed for good). "
    "Begin with `touchpoint dlq stats`, then look at an example with `touchpoint dlq show`.",
)


def _selection(
    *,
    consumer: Annotated[str | None, typer.Option(help="Only this consumer's: feedback-svc.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Only those with this cause, as `touchpoint dlq stats` shows it.")
    ] = None,
    type: Annotated[str | None, typer.Option(help="Only events of this type: feedback.submitted.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only those of the customer with this id.")] = None,
    since: Since = None,
    until: Until = None,
) -> Selection:
    """The filter options that all commands on dead letters share, as a `Selection`."""
    return Selection(consumer, fingerprint, type, tenant, customer, since=since, until=until)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: adds the options of `_selection` to a command and passes their result as its `selection`."""
    choosing = signature(_selection).parameters
    own = [each for each in signature(command).parameters.values() if each.name != "selection"]

    @wraps(command)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in choosing}
        command(selection=_selection(**chosen), **given)

    parameters = [*choosing.values(), *own]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # typer reads the options from it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


Limit = Annotated[
    int, typer.Option(min=1, max=dead_letters.MOST, help="Maximum number of dead letters; those that failed first.")
]
Place = Annotated[
    str,
    typer.Argument(
        metavar="TOPIC/PARTITION/OFFSET",
        help="Position in the log, as `touchpoint dlq list` shows it: touchpoints.v1/3/1042.",
    ),
]
Execute = Annotated[bool, typer.Option("--execute", help="Do it. Without this option: a dry run that changes nothing.")]
Reason = Annotated[str, typer.Option(help="Why you do this; required with --execute. Stored in the audit trail.")]
State = Literal["open", "redriven", "discarded", "any"]


@app.command()
@_selecting
def stats(
    *,
    selection: Selection,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Count dead letters by cause: open ones, customers affected, first and last failure, and an example to show.

    The hexadecimal fingerprint before each cause is the value for --fingerprint of the other commands.

    \b
    Examples:
      touchpoint dlq stats
      touchpoint dlq stats --since 2h --json
    """
    every = replace(selection, state=None)
    causes = in_each(database, lambda session: dead_letters.causes(session, every))
    if as_json:
        typer.echo(json.dumps(causes, default=str))
    else:
        page.causes(causes)


@app.command("list")
@_selecting
def list_letters(
    *,
    selection: Selection,
    state: Annotated[State, typer.Option(help="Only those in this state.")] = "open",
    limit: Limit = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first: position, time, state, attempts, consumer, type, customer and cause.

    \b
    Examples:
      touchpoint dlq list --consumer metrics-svc --since 2026-11-22
      touchpoint dlq list --customer C-17 --state any --json
    """
    shown = replace(selection, state=None if state == "any" else state, limit=limit)
    letters = in_each(database, lambda session: dead_letters.find(session, shown))
    if as_json:
        typer.echo(json.dumps(letters, default=str))
        return
    page.letters(letters)


@app.command()
def show(place: Place, database: Database = "", as_json: Json = False) -> None:
    """Show one dead letter in full: error, event, the customer's neighbouring events, and what to try.

    The output contains personal data. The offset need not have a dead letter: any offset in the log works, such as
    the one that a consumer halted at.

    \b
    Example:
      touchpoint dlq show touchpoints.v1/3/1042
    """
    topic, partition, offset = _parsed(place)
    letters = in_each(database, lambda session: dead_letters.at(session, topic, partition, offset))
    records = asyncio.run(lookup.around(kafka(), topic, partition, offset))
    if as_json:
        typer.echo(json.dumps({"dead_letters": letters, "records": [lookup.shown(r) for r in records]}, default=str))
        return
    page.place(letters, records, offset)


@app.command()
@_selecting
def discard(
    *,
    selection: Selection,
    limit: Limit = dead_letters.MOST,
    execute: Execute = False,
    reason: Reason = "",
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Close open dead letters for good: their events are never applied by the consumer.

    Without --execute it only shows which dead letters would be discarded.

    \b
    Examples:
      touchpoint dlq discard --fingerprint 3f1c6a0d9be24c11
      touchpoint dlq discard --fingerprint 3f1c6a0d9be24c11 --execute --reason "test data of the shop"
    """
    chosen = replace(selection, limit=limit)
    why = _required(reason) if execute else _show_only(database, chosen, as_json, "discarded")

    async def work(session: AsyncSession) -> list[int]:
        return [await dead_letters.discard(session, chosen, operator(), why)]

    count = sum(in_each(database, work))
    typer.echo(json.dumps({"discarded": count}) if as_json else f"{count} discarded.")


@app.command()
@_selecting
def redrive(
    *,
    selection: Selection,
    limit: Limit = dead_letters.MOST,
    execute: Execute = False,
    reason: Reason = "",
    rate: Annotated[int | None, typer.Option(min=1, help="Maximum events per second. Default: no limit.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Give open dead letters to their consumer's handlers again, each once, and wait for the result.

    Without --execute it only shows which dead letters would be redriven. The service's worker does it as a replay,
    while the consumer continues with new events. Ctrl-C stops only the waiting; watch and control the replay with
    `touchpoint replay status | pause | abort`. A dead letter that fails again stays open with one more attempt.

    \b
    Exit codes:
      0    all were applied, or a dry run
      1    some failed again, or the replay stopped before its end
      2    usage error
      130  Ctrl-C; the replay continues in the worker

    \b
    Examples:
      touchpoint dlq redrive --fingerprint 3f1c6a0d9be24c11
      touchpoint dlq redrive --fingerprint 3f1c6a0d9be24c11 --execute --reason "fixed in 0.4.1"
    """
    chosen = replace(selection, limit=limit)
    why = _required(reason) if execute else _show_only(database, chosen, as_json, "redriven")
    started = in_each(database, lambda session: plan.redrive_all(session, chosen, operator(), why, rate=rate))
    if not (started or as_json):
        typer.echo("Nothing was redriven: no open dead letter matches these options.")
    watch(database, started, as_json)


def _required(reason: str) -> str:
    if not reason:
        raise UsageError("--execute needs a --reason")
    return reason


def _show_only(database: str, selection: Selection, as_json: bool, done: str) -> NoReturn:
    """The dry run: show which dead letters would be redriven or discarded, and end the command."""
    causes = in_each(database, lambda session: dead_letters.causes(session, selection))
    if as_json:
        typer.echo(json.dumps(causes, default=str))
    else:
        page.causes(causes)
        total = sum(cause["open"] for cause in causes)
        typer.echo(f'{total} would be {done}. Nothing was changed: add --execute --reason "…" to do it.')
    raise typer.Exit


def _parsed(written: str) -> tuple[str, int, int]:
    if (place := parsing.place(written)) is None:
        raise UsageError(
            f"{written!r} is not a position in the log: write topic/partition/offset, such as touchpoints.v1/3/1042"
        )
    return place
