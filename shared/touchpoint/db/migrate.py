"""Migrations: one Alembic history per service, safe when two start at once and while the old code still runs."""

import asyncio
import zlib
from importlib.resources import files

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from touchpoint.db import roles
from touchpoint.db.engine import LOCK_NOT_AVAILABLE, create_engine, sqlstate
from touchpoint.errors import UsageError

STATEMENT_LOCK_TIMEOUT = "2s"
"""A DDL statement waiting for a lock makes every later query wait behind it: give up soon, let them pass, try again."""
ATTEMPTS = 30
PAUSE_SECONDS = 1.0


async def upgrade(package: str, dsn: str) -> None:
    """Bring a service's database to the newest revision of `<package>/migrations`.

    A second one started at the same time waits for the first and then finds nothing to do. All pending revisions
    commit together or not at all. Raises UsageError when the old code holds on to a lock that is needed.
    """
    engine = create_engine(dsn, f"{package} migrate")
    try:
        for _ in range(ATTEMPTS):
            async with engine.connect() as connection:
                try:
                    return await connection.run_sync(_upgrade, package)
                except DBAPIError as error:
                    if sqlstate(error) != LOCK_NOT_AVAILABLE:
                        raise
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await engine.dispose()
    raise UsageError(
        f"{package}: a table stayed locked by a long transaction; end it (see pg_stat_activity), try again"
    )


def _upgrade(connection: Connection, package: str) -> None:
    lock = {"key": zlib.crc32(b"touchpoint migrations")}
    connection.execute(text("SELECT pg_advisory_lock(:key)"), lock)
    connection.execute(text(f"SET lock_timeout = '{STATEMENT_LOCK_TIMEOUT}'"))
    connection.commit()
    config = Config()
    config.set_main_option("script_location", str(files(package) / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        roles.ensure(connection, roles.api_role(package))
        command.upgrade(config, "head")
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), lock)


def run() -> None:
    """Body of every service's `migrations/env.py`."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("Run migrations with `python -m <service> migrate`; Alembic alone only writes new revisions.")
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()
