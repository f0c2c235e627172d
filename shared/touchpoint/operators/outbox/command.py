"""`touchpoint outbox`: list, retry and discard parked outbox rows, which are too large for Kafka."""

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
    help="Parked outbox rows: events that a service wrote for Kafka and that are larger than Kafka accepts.\n\n"
    "The relay sends all other rows and does not try these again until an operator retries or discards them.",
)

Ids = Annotated[
    list[int], typer.Argument(metavar="ROW...", help="Ids of rows, as `touchpoint outbox list` shows them.")
]
Reason = Annotated[str, typer.Option(help="Why you do this; stored in the audit trail.")]


@app.command("list")
def list_rows(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show parked rows, oldest first: id, topic, size in bytes, time written, event id, and why Kafka refused them.

    \b
    Examples:
      touchpoint outbox list
      touchpoint outbox list --json
    """
    rows = in_each(database, lambda session: parked.find(session, limit))
    if as_json:
        typer.echo(json.dumps(rows, default=str))
        return
    table = Table("row", "topic", "bytes", "since", "event", "why", box=None)
    for row in rows:
        event = row["headers"].get("ce_id", "")
        since = f"{row['created_at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(row["id"]), row["topic"], f"{row['bytes']:,}", since, event, row["reason"])
    Console().print(table if rows else "No row is parked.")


@app.command()
def retry(ids: Ids, *, reason: Reason, database: Database = "") -> None:
    """Let the relay send parked rows again, such as after Kafka's limit was raised.

    \b
    Example:
      touchpoint outbox retry 4711 4712 --reason "max.message.bytes raised, OPS-82"
    """
    changed = in_each(database, lambda session: parked.retry(session, ids, operator(), reason))
    _report(changed, "will be sent again")


@app.command()
def discard(ids: Ids, *, reason: Reason, database: Database = "") -> None:
    """Delete parked rows for good: no other service ever receives these events.

    \b
    Example:
      touchpoint outbox discard 4711 --reason "INC-17: a test of the shop"
    """
    changed = in_each(database, lambda session: parked.discard(session, ids, operator(), reason))
    _report(changed, "discarded")


def _report(changed: list[int], done: str) -> None:
    if not changed:
        raise NotFoundError("none of these rows is parked: see `touchpoint outbox list`")
    typer.echo(f"{len(changed)} {done}.")
