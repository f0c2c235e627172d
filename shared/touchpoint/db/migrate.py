"""Migrations: one Alembic history per service, safe when two start at once and while the old code still runs."""

import zlib
from importlib.resources import files

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, text

from touchpoint.db.engine import create_engine

STATEMENT_LOCK_TIMEOUT = "5s"
"""A DDL statement waiting for a lock makes every later query wait behind it: give up soon, the caller runs it again."""


async def upgrade(package: str, dsn: str) -> None:
    """Bring a service's database to the newest revision of `<package>/migrations`.

    A second one started at the same time waits for the first and then finds nothing to do. All pending revisions
    commit together or not at all.
    """
    engine = create_engine(dsn, f"{package} migrate")
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, package)
    finally:
        await engine.dispose()


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
