"""How the operators' commands reach the services' databases and Kafka; by default those that `touchpoint up` runs."""

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import database_url, parsing
from touchpoint.base.errors import UsageError
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.base.sqlstates import HALT
from touchpoint.db import databases
from touchpoint.db.engine import blames_database, transaction_on, verdict

T = TypeVar("T")

Database = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        help="URL of the service's database: postgresql://user:password@host/feedback. "
        "Default: all databases of the local stack (`touchpoint up`).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _moment(written: str) -> datetime:
    try:
        return parsing.moment(written)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None


Since = Annotated[
    datetime | None,
    typer.Option(
        parser=_moment,
        metavar="TIME",
        help="At this time or later: 2026-11-22T09:30:00Z, or 2h for two hours ago.",
    ),
]
Until = Annotated[datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Before this time (exclusive).")]


def operator() -> str:
    """The operator's name for the audit trail: `user@host`.

    The user comes from LOGNAME if it is set, so that people who share one system account can be told apart.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user id often has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


CONSUMING = ("feedback", "escalation", "metrics")
"""Names of the databases of all services with a Kafka consumer."""


def in_each(database: str, work: Callable[[AsyncSession], Awaitable[list[T]]]) -> list[T]:
    """Run `work` in the given database, or in each local service's if none is given; return the results joined."""

    async def run() -> list[T]:
        return [result for dsn in dsns(database) for result in await in_one(dsn, work)]

    return asyncio.run(run())


async def in_one(dsn: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run `work` in one transaction of a database. Raises UsageError (one line) when the database cannot be used."""
    async with databases.connected(dsn):
        pass
    try:
        async with transaction_on(dsn, "touchpoint") as session:
            return await work(session)
    except Exception as error:
        if not blames_database(error):
            raise
        hint = "; is this the right database, and has this version's `migrate` run?" if verdict(error) == HALT else ""
        raise UsageError(f"{database_url.without_password(dsn)}: {explain(error)}{hint}") from None


def dsns(database: str) -> list[str]:
    """The given database URL, or those of all local services with a consumer. Raises UsageError when none runs."""
    return [database] if database else [local_database(name) for name in CONSUMING]


def local_database(name: str) -> str:
    """URL of a database of the local stack. Raises UsageError when no local stack runs."""
    otherwise = f"give the URL of the database {name}: --database-url or DATABASE_URL"
    return database_url.named(_running(lambda local: local.running_database(), otherwise), name)


def kafka() -> KafkaSettings:
    """Kafka's settings from the environment, else those of the local stack. Raises UsageError when there is neither."""
    settings = KafkaSettings()
    if "bootstrap_servers" in settings.model_fields_set:
        return settings
    local: KafkaSettings = _running(
        lambda stack: stack.running_kafka(), "give Kafka's address: KAFKA_BOOTSTRAP_SERVERS"
    )
    return local


async def local_stack() -> dict[str, Any]:
    """State of the local stack and its processes, as `touchpoint status --json` prints it."""
    from touchpoint.local.commands import stack_status  # noqa: PLC0415 (an extra, absent from production images)

    return await stack_status()


def _running(read: Callable[[Any], T | None], otherwise: str) -> T:
    """What `read` returns for the local stack. Raises UsageError, with `otherwise` as the remedy, if none runs."""
    try:
        from touchpoint.local import commands  # noqa: PLC0415 (an extra, absent from production images)
    except ModuleNotFoundError:
        raise UsageError(otherwise) from None
    if (value := read(commands)) is None:
        raise UsageError(f"no local stack runs on this machine: start it with `touchpoint up`, or {otherwise}")
    return value
