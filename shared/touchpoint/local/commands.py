"""`touchpoint up | down | status | logs`: the local stack from the command line."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.local import control
from touchpoint.local import up as foreground
from touchpoint.local.home import KAFKA_SECRET, Home, default_folder
from touchpoint.local.kafka import access

app = typer.Typer()


@app.command()
def up(
    port: Annotated[
        int, typer.Option(min=1024, max=60000, help="Port of the gateway; all others keep their distance to it.")
    ] = 8080,
    brokers: Annotated[int, typer.Option(help="Embedded Kafka brokers, 1 or 3: of three, one may be gone.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of the embedded servers first.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background; return once all is ready.")] = False,
) -> None:
    """Start Kafka, PostgreSQL and the four services on this machine, and show what flows.

    Ctrl-C stops everything this has started, and only that; data survives. Prometheus and Alertmanager, with the
    project's alerts, are started, too, if they are installed.

    \b
    Environment:
      KAFKA_BOOTSTRAP_SERVERS  use this Kafka; TLS and SASL by KAFKA_SECURITY_PROTOCOL,
                               KAFKA_SASL_…, KAFKA_SSL_…
      DATABASE_URL             use this PostgreSQL: postgresql://user:password@host/db?sslmode=…
      TOUCHPOINT_DATA          folder for data and logs

    \b
    Examples:
      touchpoint up
      touchpoint up --fresh --port 18080
      touchpoint up --detach && touchpoint status
      touchpoint up --fresh --brokers 3
      KAFKA_BOOTSTRAP_SERVERS=kafka.example:9092 touchpoint up
    """
    if brokers not in (1, 3):
        raise typer.BadParameter("1, or 3: of two none may be gone", param_hint="--brokers")
    home = _home()
    if detach:
        asyncio.run(control.detach(home, port, brokers=brokers, fresh=fresh, output=sys.stdout))
    else:
        asyncio.run(foreground.up(home, port, Console(), brokers=brokers, fresh=fresh))


@app.command()
def down() -> None:
    """Stop what `touchpoint up` has started, wherever that runs; data stays.

    \b
    Example:
      touchpoint down
    """
    home = _home()
    if not home.processes():
        typer.echo("Nothing is running.")
        return
    asyncio.run(home.stop_processes())
    typer.echo("Stopped.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show what runs here and whether it is ready. The exit code is 0 if all of it is, else 1.

    \b
    Examples:
      touchpoint status
      touchpoint status --json | python -m json.tool
    """
    home = _home()
    found = asyncio.run(control.status(home))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(control.told(found)))
    if found["state"] != "ready":
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="SERVICE", help="feedback-svc, gateway, kafka, postgres …")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more; Ctrl-C ends it.")] = False,
) -> None:
    """Print the last lines of a service's log.

    \b
    Examples:
      touchpoint logs gateway
      touchpoint logs feedback-svc --follow
    """
    home = _home()
    for line in control.read_log(home, name, follow=follow):
        sys.stdout.write(line)
        sys.stdout.flush()


async def stack_status() -> dict[str, Any]:
    """How the stack that runs here is, as `touchpoint status` has it."""
    return await control.status(_home())


def running_database() -> str | None:
    """The URL of the PostgreSQL of the stack that runs here; None when none runs."""
    found: str | None = _home().recorded().get("database_url")
    return found


def running_kafka() -> KafkaSettings | None:
    """How the Kafka of the stack that runs here is reached; None when none runs. Raises UsageError."""
    home = _home()
    recorded = home.recorded()
    if not (address := recorded.get("kafka")):
        return None
    if "kafka" not in recorded["processes"]:
        return KafkaSettings(bootstrap_servers=address)
    if not (secret := home.secrets().get(KAFKA_SECRET)):
        raise UsageError(
            "an older version of Touchpoint runs here: stop it with `touchpoint down`, then start `touchpoint up`"
        )
    return access(address, secret)


def _home() -> Home:
    told = os.environ.get("TOUCHPOINT_DATA")
    return Home(Path(told).absolute() if told else default_folder())
