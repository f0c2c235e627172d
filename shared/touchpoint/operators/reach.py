"""What operators' commands work on: the services' databases and Kafka, by default those of `touchpoint up`."""

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import database_url
from touchpoint.base import parsing as words
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
        help="The service's database: postgresql://user:password@host/feedback. Unset: those of `touchpoint up`.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _moment(written: str) -> datetime:
    try:
        return words.moment(written)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None


Since = Annotated[
    datetime | None,
    typer.Option(
        parser=_moment, metavar="TIME", help="From this time on: 2026-11-22T09:30:00Z, or 2h for two hours ago."
    ),
]
Until = Annotated[datetime | None, typer.Option(parser=_moment, metavar="TIME", help="Before this time.")]


def operator() -> str:
    """Who works here, for the trail: the system's user (LOGNAME says who, where all are the same one) and host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


CONSUMING = ("feedback", "escalation", "metrics")
"""The databases of the services that consume."""


def in_each(database: str, work: Callable[[AsyncSession], Awaitable[list[T]]]) -> list[T]:
    """Do something in the database named, else in that of each local service, and answer all results."""

    async def run() -> list[T]:
        return [found for dsn in dsns(database) for found in await in_one(dsn, work)]

    return asyncio.run(run())


async def in_one(dsn: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do something in a database, in one transaction; raises UsageError, one line, when it cannot be reached."""
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
    """The database named, else that of each local service that consumes. Raises UsageError."""
    return [database] if database else [local_database(name) for name in CONSUMING]


def local_database(name: str) -> str:
    """A database of the stack that runs here. Raises UsageError when none does."""
    otherwise = f"say where the database {name} is: --database-url or DATABASE_URL"
    return database_url.named(_running(lambda local: local.running_database(), otherwise), name)


def kafka() -> KafkaSettings:
    """Kafka as the environment says, else that of the stack that runs here. Raises UsageError."""
    settings = KafkaSettings()
    if "bootstrap_servers" in settings.model_fields_set:
        return settings
    found: KafkaSettings = _running(lambda local: local.running_kafka(), "say where Kafka is: KAFKA_BOOTSTRAP_SERVERS")
    return found


async def local_stack() -> dict[str, Any]:
    """How the stack that runs here is, as `touchpoint status` has it."""
    from touchpoint.local.commands import stack_status  # noqa: PLC0415 (an extra, absent from production images)

    return await stack_status()


def _running(look: Callable[[Any], T | None], otherwise: str) -> T:
    """What `look` finds of the stack that runs here."""
    try:
        from touchpoint.local import commands  # noqa: PLC0415 (an extra, absent from production images)
    except ModuleNotFoundError:
        raise UsageError(otherwise) from None
    if (found := look(commands)) is None:
        raise UsageError(f"`touchpoint up` does not run here: start it, or {otherwise}")
    return found
