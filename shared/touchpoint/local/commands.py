"""`touchpoint up | down | status | logs`: the commands of the local stack."""

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
        int, typer.Option(min=1024, max=60000, help="Port of the gateway; all other ports are computed from it.")
    ] = 8080,
    brokers: Annotated[int, typer.Option(help="Embedded Kafka brokers, 1 or 3; with 3, one may fail.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of the embedded servers first.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background; return once all is ready.")] = False,
) -> None:
    """Start Kafka, PostgreSQL and the four services on this machine, load a sample, and show counts of events live.

    The sample is a company with 450 customers: four weeks of history, the last day live, and then further events as
    their time comes, about 170 a day (docs/sample.md).

    Ctrl-C stops all processes that this command started. The data is kept for the next start. Prometheus and
    Alertmanager are started as well if they are installed, with the project's alerts.

    \b
    Environment:
      KAFKA_BOOTSTRAP_SERVERS  use this Kafka instead of an embedded one; TLS and SASL by
                               KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_…, KAFKA_SSL_…
      DATABASE_URL             use this PostgreSQL instead of an embedded one:
                               postgresql://user:password@host/db?sslmode=…
      TOUCHPOINT_DATA          folder for data and logs

    Exit codes: 0 stopped by Ctrl-C or in the background and ready, 2 it could not start; one line says why.

    \b
    Examples:
      touchpoint up
      touchpoint up --fresh --port 18080
      touchpoint up --detach && touchpoint status
      touchpoint up --fresh --brokers 3
      KAFKA_BOOTSTRAP_SERVERS=kafka.example:9092 touchpoint up
    """
    if brokers not in (1, 3):
        raise typer.BadParameter("must be 1 or 3: with 2 brokers none may fail", param_hint="--brokers")
    home = _home()
    if detach:
        asyncio.run(control.detach(home, port, brokers=brokers, fresh=fresh, output=sys.stdout))
    else:
        asyncio.run(foreground.up(home, port, Console(), brokers=brokers, fresh=fresh))


@app.command()
def down() -> None:
    """Stop all processes that `touchpoint up` started, in whatever terminal. The data is kept.

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
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Show the processes of the local stack: whether each is ready, its id, restarts and URL.

    Exit codes: 0 all processes are ready, 1 the stack is stopped or a process is not ready.

    \b
    Examples:
      touchpoint status
      touchpoint status --json | python -m json.tool
    """
    home = _home()
    stack = asyncio.run(control.status(home))
    if as_json:
        typer.echo(json.dumps(stack, indent=2))
    else:
        typer.echo("\n".join(control.lines(stack)))
    if stack["state"] != "ready":
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="SERVICE", help="feedback-svc, gateway, kafka, postgres …")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
) -> None:
    """Print the last 100 lines of a process's log.

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
    """State of the local stack and its processes, as `touchpoint status --json` prints it."""
    return await control.status(_home())


def running_database() -> str | None:
    """URL of the local stack's PostgreSQL; None if no stack runs."""
    url: str | None = _home().recorded().get("database_url")
    return url


def running_kafka() -> KafkaSettings | None:
    """Settings of the local stack's Kafka; None if no stack runs. Raises UsageError if it is an older version."""
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
    folder = os.environ.get("TOUCHPOINT_DATA")
    return Home(Path(folder).absolute() if folder else default_folder())
