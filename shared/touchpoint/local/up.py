"""`touchpoint up`: takes the folder's lock, starts the stack, and stops it on Ctrl-C, SIGTERM or SIGHUP."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.local import flow
from touchpoint.local.home import Home
from touchpoint.local.progress import Progress
from touchpoint.local.services import FEEDBACK, GATEWAY, SERVICES
from touchpoint.local.stack import Stack

WELCOME = """
Touchpoint is ready.

  gateway     {gateway}
  API docs    {gateway}/docs
  operations  {operations}/v1/ops
  metrics     {metrics}
  Kafka       {kafka}
  PostgreSQL  {postgres}
{watchers}  logs        {logs}
  more        {command} --help

A first call:

  curl -s {gateway}/v1/feedback -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"kind": "nps", "channel": "web", "score": {{"value": 9, "min": 0, "max": 10}}, "text": "Lovely."}}'
"""


async def up(home: Home, port: int, console: Console, *, brokers: int, fresh: bool) -> None:
    """Run the stack until Ctrl-C, SIGTERM or the terminal's end. Raises UsageError when it cannot be started."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kafka, database_url = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    if kafka and brokers > 1:
        raise UsageError("--brokers is for embedded Kafka only: unset KAFKA_BOOTSTRAP_SERVERS")
    with home.owned():
        await home.stop_processes()  # left by a supervisor that was killed
        if fresh:
            _start_clean(home, kafka, database_url)
        stack = Stack(home, port, Progress(console), brokers, kafka, database_url)
        running = asyncio.create_task(_run(stack, console))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # it only ends by raising
        finally:
            running.cancel()
            stopping.cancel()
            await asyncio.gather(running, stopping, return_exceptions=True)
            await stack.stop()


def _start_clean(home: Home, kafka: str | None, database_url: str | None) -> None:
    if kafka or database_url:
        raise UsageError(
            "--fresh deletes the data of embedded servers only: unset KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL, or "
            "delete the topics and databases on those servers yourself"
        )
    home.forget()


def _shown(stack: Stack, kafka: KafkaSettings) -> str:
    """Kafka's address; of an embedded one also the protocol, user and password file that other tools need."""
    if stack.kafka:
        return kafka.bootstrap_servers
    where = f"user {kafka.sasl_username}, password in {stack.home.secrets_file}"
    return f"{kafka.bootstrap_servers} ({kafka.security_protocol}, {kafka.sasl_mechanism}: {where})"


async def _run(stack: Stack, console: Console) -> None:
    environment, key = await stack.start()
    by_port = sorted(SERVICES, key=lambda service: service.offset)
    metrics = [f"{service.admin_url(stack.port)}/metrics  {service.name}" for service in by_port]
    welcome = WELCOME.format(
        gateway=GATEWAY.url(stack.port),
        operations=GATEWAY.admin_url(stack.port),
        metrics="\n              ".join(metrics),
        kafka=_shown(stack, environment.kafka),
        postgres=database_url.without_password(database_url.named(environment.database_url, FEEDBACK.database)),
        watchers="".join(f"  {name:<11} {url}\n" for name, url in stack.watchers.items()),
        logs=stack.home.logs,
        command=Path(sys.executable).with_name("touchpoint"),
        key=key,
    )
    console.print(welcome, markup=False, highlight=False, soft_wrap=True)
    stack.ready()
    await asyncio.gather(stack.supervisor.keep(), stack.go_on(key), flow.show(stack.port, console))
