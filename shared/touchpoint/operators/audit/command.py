"""`touchpoint audit`: print the audit trail of operators' actions."""

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
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of lines per service.")] = 50,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show the audit trail: what operators did, who, when, why, and with what result; newest first.

    It holds pauses and resumes of consumers, redrives and discards of dead letters, replays, rebuilds, and changes of
    parked outbox rows.

    \b
    Examples:
      touchpoint audit
      touchpoint audit --since 2026-11-22 --json
    """

    async def work(session: AsyncSession) -> list[dict[str, Any]]:
        return list(await trail.lines(session, since, limit))

    lines = sorted(in_each(database, work), key=lambda line: line["at"], reverse=True)
    if as_json:
        typer.echo(json.dumps(lines, default=str))
    else:
        page.trail(lines)
