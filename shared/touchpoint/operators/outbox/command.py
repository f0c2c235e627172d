"""`touchpoint outbox`: what a service has written for Kafka that Kafka can never take."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from touchpoint.base.errors import NotFoundError
from touchpoint.db import parked
from touchpoint.operators.reach import Database, Json, in_each, operator

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Outbox rows that are parked: they are too large for Kafka, so they are kept and not tried again.",
)

Ids = Annotated[list[int], typer.Argument(help="The rows, as `touchpoint outbox list` shows them.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the trail.")]


@app.command("list")
def list_rows(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show parked rows, the oldest first: what they are, how large, since when, and why Kafka cannot take them."""
    found = in_each(database, lambda session: parked.find(session, limit))
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    table = Table("row", "topic", "bytes", "since", "event", "why", box=None)
    for row in found:
        event = row["headers"].get("ce_id", "")
        since = f"{row['created_at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(row["id"]), row["topic"], f"{row['bytes']:,}", since, event, row["reason"])
    Console().print(table if found else "No row is parked.")


@app.command()
def retry(ids: Ids, *, reason: Reason, database: Database = "") -> None:
    """Have the relay try parked rows again, such as after a release that allows larger records."""
    changed = in_each(database, lambda session: parked.retry(session, ids, operator(), reason))
    _answer(changed, "will be tried again")


@app.command()
def discard(ids: Ids, *, reason: Reason, database: Database = "") -> None:
    """Delete parked rows for good: no other service ever learns what they say.

    \b
    Example:
      touchpoint outbox discard 4711 --reason "INC-17: a test of the shop"
    """
    changed = in_each(database, lambda session: parked.discard(session, ids, operator(), reason))
    _answer(changed, "discarded")


def _answer(changed: list[int], done: str) -> None:
    if not changed:
        raise NotFoundError("none of these rows is parked: see `touchpoint outbox list`")
    typer.echo(f"{len(changed)} {done}.")
