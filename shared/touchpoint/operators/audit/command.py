"""`touchpoint audit`: what operators did to events."""

import json
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db import audit as trail
from touchpoint.operators.reach import Database, Json, Since, in_each
from touchpoint.operators.replays import page


def audit(
    *,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of each service at most.")] = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show what operators did to events: who, when, why, and what came of it; the newest first.

    \b
    Examples:
      touchpoint audit
      touchpoint audit --since 2026-11-22 --json
    """

    async def work(session: AsyncSession) -> list[dict[str, Any]]:
        return list(await trail.lines(session, since, limit))

    found = sorted(in_each(database, work), key=lambda line: line["at"], reverse=True)
    if as_json:
        typer.echo(json.dumps(found, default=str))
    else:
        page.trail(found)
