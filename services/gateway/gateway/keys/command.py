"""`touchpoint keys`: create, list, limit, rotate and revoke API keys, in the gateway's database."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.keys import repository
from gateway.keys import service as keys
from gateway.keys.models import ApiKey
from touchpoint.http.scopes import Scope
from touchpoint.operators.reach import Json, in_one, local_database

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="API keys: who may call the gateway, for which tenant, and with which scopes.",
)

Database = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        help="The gateway's database: postgresql://user:password@host/gateway. Default: the one of `touchpoint up`.",
    ),
]
Prefix = Annotated[str, typer.Argument(help="The public part of the key, as `touchpoint keys list` shows it.")]
MOST = 2**31 - 1
EventRate = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Rate limit: events per second. Default: the gateway's EVENTS_PER_SECOND."),
]
RequestRate = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST, help="Rate limit: queries and commands per second. Default: the gateway's REQUESTS_PER_SECOND."
    ),
]
Days = Annotated[float, typer.Option(min=0.001, max=3650, help="Lifetime of the key in days.")]


@app.command()
def create(
    name: Annotated[
        str,
        typer.Argument(help="Name of the system or person that uses the key; shown in lists and in the audit trail."),
    ],
    *,
    tenant: Annotated[
        str,
        typer.Option(help="Tenant whose data the key reads and writes. A new tenant is created by its first event."),
    ],
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="Permission of the key; repeat it for several. Default: events:write. ops:read and ops:replay are for "
            "operators: they apply to the data of all tenants."
        ),
    ] = [Scope.EVENTS_WRITE],  # noqa: B006 (typer copies it)
    days: Days = keys.LIFETIME.days,
    event_rate: EventRate = None,
    request_rate: RequestRate = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Create a key and show it. It cannot be shown again: only its hash is stored.

    \b
    Examples:
      touchpoint keys create shop --tenant acme
      touchpoint keys create dashboard --tenant acme --scope metrics:read --scope feedback:read --days 90
      touchpoint keys create "night shift" --tenant operations --scope ops:read --scope ops:replay
    """

    async def work(session: AsyncSession) -> keys.Issued:
        rates = {"event_rate": event_rate, "request_rate": request_rate}
        return await keys.create(session, tenant, name, scope, timedelta(days=days), **rates)

    _show_issued(_work(database, work), as_json)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Show only keys of this tenant.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """List keys with their scopes, expiry, last use and own limits. Secrets are not stored and cannot be shown."""
    listed = _work(database, lambda session: repository.list_keys(session, tenant))
    if as_json:
        typer.echo(json.dumps([_described(key) for key in listed]))
        return
    table = Table(
        Column("prefix", no_wrap=True, min_width=12),
        "name",
        "tenant",
        "scopes",
        "state",
        "expires",
        "last used",
        "own limits",
        box=None,
    )
    for key in listed:
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        expires = f"{key.expires_at:%Y-%m-%d}"
        scopes = " ".join(key.scopes)
        table.add_row(key.prefix, key.name, key.tenant_id, scopes, _state(key), expires, used, _own_limits(key))
    Console().print(table)


@app.command()
def limit(
    prefix: Prefix,
    event_rate: EventRate = None,
    request_rate: RequestRate = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Set a key's own rate limits. Gateways apply them within 10 seconds; a rate left out returns to the default.

    \b
    Examples:
      touchpoint keys limit 3f9c02ab71de --event-rate 5000
      touchpoint keys limit 3f9c02ab71de
    """
    key = _work(database, lambda session: keys.limit(session, prefix, event_rate, request_rate))
    typer.echo(json.dumps(_described(key)) if as_json else f"{key.prefix}: {_own_limits(key) or 'the default limits'}")


@app.command()
def quota(
    tenant: Annotated[str, typer.Argument(help="Tenant whose events are counted, over all of its keys.")],
    events_per_day: Annotated[
        int | None, typer.Option(min=1, max=2**53, help="Events per UTC day. Default: the gateway's EVENTS_PER_DAY.")
    ] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Set how many events a tenant may send a day, within 10 seconds, and show how many it sent today."""
    changed = _work(database, lambda session: keys.set_quota(session, tenant, events_per_day))
    today = changed.events if changed.day == datetime.now(UTC).date() else 0
    if as_json:
        typer.echo(json.dumps({"tenant": tenant, "events_per_day": events_per_day, "events_today": today}))
        return
    allowed = "the default number of" if events_per_day is None else f"{events_per_day:,}"
    typer.echo(f"Tenant {tenant} may send {allowed} events a day; today it has sent {today:,}.")


@app.command()
def rotate(
    prefix: Prefix,
    overlap_hours: Annotated[
        float, typer.Option("--overlap", min=0, max=24 * 30, help="How long the old secret works on, in hours.")
    ] = keys.OVERLAP.total_seconds() / 3600,
    days: Days = keys.LIFETIME.days,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Give a key a new secret and show it. The old secret works on for the overlap."""
    overlap, lifetime = timedelta(hours=overlap_hours), timedelta(days=days)
    _show_issued(_work(database, lambda session: keys.rotate(session, prefix, overlap, lifetime)), as_json)


@app.command()
def revoke(prefix: Prefix, database: Database = "", as_json: Json = False) -> None:
    """Revoke a key for good: within 10 seconds every gateway refuses it."""
    key = _work(database, lambda session: keys.revoke(session, prefix))
    typer.echo(
        json.dumps(_described(key)) if as_json else f"Revoked {key.prefix} ({key.name}, tenant {key.tenant_id})."
    )


def _work(database: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run `work` in a transaction on the gateway's database. Raises UsageError when it cannot be reached."""
    return asyncio.run(in_one(database or local_database("gateway"), work))


def _show_issued(issued: keys.Issued, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"token": issued.token, **_described(issued.key)}))
        return
    key = issued.key
    typer.echo(f"{issued.token}\n")
    typer.echo(
        f"Shown this once. Tenant {key.tenant_id}, scopes {' '.join(key.scopes)}, until {key.expires_at:%Y-%m-%d}."
    )
    typer.echo("Use it as: Authorization: Bearer <key>")


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at <= datetime.now(UTC) else "active"


def _own_limits(key: ApiKey) -> str:
    rates = {"events/s": key.event_rate, "requests/s": key.request_rate}
    return ", ".join(f"{rate:,} {unit}" for unit, rate in rates.items() if rate is not None)


def _described(key: ApiKey) -> dict[str, Any]:
    """A key as JSON, without its secrets."""
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "prefix": key.prefix,
        "name": key.name,
        "tenant": key.tenant_id,
        "scopes": list(key.scopes),
        "state": _state(key),
        "event_rate": key.event_rate,
        "request_rate": key.request_rate,
        **{name: moment and moment.isoformat() for name, moment in times.items()},
    }
