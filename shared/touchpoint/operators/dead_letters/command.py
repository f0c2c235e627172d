"""`touchpoint dlq`: dead letters by cause, one in full, and what to do with them."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Any, Literal, NoReturn

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import parsing as words
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
    help="Dead letters: events that a consumer could not handle. They are kept, and wait for a person.",
)


def _selection(
    *,
    consumer: Annotated[str | None, typer.Option(help="Of this consumer: feedback-svc.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Of this cause, as `touchpoint dlq stats` shows it.")] = None,
    type: Annotated[str | None, typer.Option(help="Of this type: feedback.submitted.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    customer: Annotated[str | None, typer.Option(help="Of the customer with this id.")] = None,
    since: Since = None,
    until: Until = None,
) -> Selection:
    """The options by which dead letters are chosen, for all commands."""
    return Selection(consumer, fingerprint, type, tenant, customer, since=since, until=until)


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_selection`, and their result as its `selection`."""
    choosing = signature(_selection).parameters
    own = [each for each in signature(command).parameters.values() if each.name != "selection"]

    @wraps(command)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in choosing}
        command(selection=_selection(**chosen), **given)

    parameters = [*choosing.values(), *own]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # typer reads the options off it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


Limit = Annotated[int, typer.Option(min=1, max=dead_letters.MOST, help="So many at most, those that failed first.")]
Place = Annotated[str, typer.Argument(help="Where it lies, as `touchpoint dlq list` shows it: touchpoints.v1/3/1042.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; without this it is only shown.")]
Reason = Annotated[str, typer.Option(help="Why; kept with each dead letter and in the trail.")]
State = Literal["open", "redriven", "discarded", "any"]


@app.command()
@_selecting
def stats(
    *,
    selection: Selection,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show what fails, a line for each cause: how many are open, of whom, since when, and an example.

    \b
    Examples:
      touchpoint dlq stats
      touchpoint dlq stats --since 2h --json
    """
    every = replace(selection, state=None)
    found = in_each(database, lambda session: dead_letters.causes(session, every))
    if as_json:
        typer.echo(json.dumps(found, default=str))
    else:
        page.causes(found)


@app.command("list")
@_selecting
def list_letters(
    *,
    selection: Selection,
    state: Annotated[State, typer.Option(help="In this state.")] = "open",
    limit: Limit = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show dead letters one by one, the oldest first.

    \b
    Examples:
      touchpoint dlq list --consumer metrics-svc --since 2026-11-22
      touchpoint dlq list --customer C-17 --state any --json
    """
    shown = replace(selection, state=None if state == "any" else state, limit=limit)
    found = in_each(database, lambda session: dead_letters.find(session, shown))
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    page.letters(found)


@app.command()
def show(place: Place, database: Database = "", as_json: Json = False) -> None:
    """Show one dead letter in full: the error, the event, the customer's events around it, and what to try.

    Any place in the log can be named, such as the one a halted consumer stands before.

    \b
    Example:
      touchpoint dlq show touchpoints.v1/3/1042
    """
    topic, partition, offset = _parsed(place)
    found = in_each(database, lambda session: dead_letters.at(session, topic, partition, offset))
    records = asyncio.run(lookup.around(kafka(), topic, partition, offset))
    if as_json:
        typer.echo(json.dumps({"dead_letters": found, "records": [lookup.shown(r) for r in records]}, default=str))
        return
    page.one(found, records, offset)


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
    """Give up on open dead letters, for good: what they told is missing in this service. Dry without --execute.

    \b
    Examples:
      touchpoint dlq discard --fingerprint 3f1c6a0d9be24c11
      touchpoint dlq discard --fingerprint 3f1c6a0d9be24c11 --execute --reason "test data of the shop"
    """
    chosen = replace(selection, limit=limit)
    why = _told(reason) if execute else _show_only(database, chosen, as_json, "discarded")

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
    rate: Annotated[int | None, typer.Option(min=1, help="Events a second at most. Unset: as many as go.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Let consumers try open dead letters again, those alone and each once; dry without --execute.

    Their workers do it beside the live stream, as a replay, and it goes on should you leave with Ctrl-C: `touchpoint
    replay status | pause | abort`. What fails again stays open, with one attempt more.

    \b
    Examples:
      touchpoint dlq redrive --fingerprint 3f1c6a0d9be24c11
      touchpoint dlq redrive --fingerprint 3f1c6a0d9be24c11 --execute --reason "mended in 0.4.1"
    """
    chosen = replace(selection, limit=limit)
    why = _told(reason) if execute else _show_only(database, chosen, as_json, "redriven")
    started = in_each(database, lambda session: plan.redrive_all(session, chosen, operator(), why, rate=rate))
    if not (started or as_json):
        typer.echo("Nothing was redriven: no open dead letter is chosen by these options.")
    watch(database, started, as_json)


def _told(reason: str) -> str:
    if not reason:
        raise UsageError("say why: --reason")
    return reason


def _show_only(database: str, selection: Selection, as_json: bool, done: str) -> NoReturn:
    """Show what would be done, and end the command."""
    found = in_each(database, lambda session: dead_letters.causes(session, selection))
    if as_json:
        typer.echo(json.dumps(found, default=str))
    else:
        page.causes(found)
        total = sum(one["open"] for one in found)
        typer.echo(f'{total} would be {done}. Nothing was changed: add --execute --reason "…" to do it.')
    raise typer.Exit


def _parsed(written: str) -> tuple[str, int, int]:
    if (found := words.place(written)) is None:
        raise UsageError(
            f"{written!r} is no place in the log: write topic/partition/offset, such as touchpoints.v1/3/1042"
        )
    return found
