"""Migrate a database: first the engine's Alembic history, then the service's own.

Safe if several migrations start at once, and while processes of the previous version run.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from touchpoint.base.errors import UsageError
from touchpoint.base.explain import explain
from touchpoint.base.sqlstates import INSUFFICIENT_PRIVILEGE, LOCK_NOT_AVAILABLE
from touchpoint.db import roles
from touchpoint.db.engine import create_engine, is_transient, sqlstate

STATEMENT_LOCK_TIMEOUT = "2s"
"""Lock timeout of DDL statements. Every later query queues behind a DDL statement that waits for a lock: so it gives up
soon, lets the queries pass and is retried."""
ATTEMPTS = 30
PAUSE_SECONDS = 1.0
"""Seconds between two attempts."""
ENGINE = "touchpoint.db"
"""The package with the migrations of the engine's tables, which every database has."""


async def upgrade(package: str, dsn: str) -> None:
    """Migrate a service's database to the newest revisions of the engine and of `<package>/migrations`.

    A second migration started at the same time waits for the first and then has nothing to do. All pending revisions
    commit in one transaction, which PostgreSQL rolls back within a second if this process dies. Raises UsageError if
    a long transaction keeps a table locked, or if the database is at a revision unknown to this version.
    """
    engine = create_engine(dsn, f"{package} migrate", client_connection_check_interval="1s")
    try:
        for _ in range(ATTEMPTS):
            async with engine.connect() as connection:
                try:
                    return await connection.run_sync(_upgrade, package)
                except DBAPIError as error:
                    if sqlstate(error) != LOCK_NOT_AVAILABLE:
                        if is_transient(error):
                            raise UsageError(f"{package} could not be migrated: {explain(error)}") from None
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
    role = roles.api_role(package)
    try:
        roles.ensure(connection, role)
        with connection.begin():
            for history in _histories(package):
                history.require_known(connection)
                history.config.attributes.update(connection=connection, role=role, version_table=history.table)
                command.upgrade(history.config, "head")
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), lock)


@dataclass(frozen=True)
class _History:
    """The migrations of one package, and the table that stores the current revision of a database."""

    config: Config
    table: str

    @classmethod
    def of(cls, package: str) -> Self:
        config = Config()
        config.set_main_option("script_location", str(files(package) / "migrations"))
        config.set_main_option("path_separator", "os")
        return cls(config, "engine_version" if package == ENGINE else "alembic_version")

    def revision(self, connection: Connection) -> str | None:
        """The current revision of the database; None before the first migration."""
        return MigrationContext.configure(connection, opts={"version_table": self.table}).get_current_revision()

    def older(self) -> set[str | None]:
        """All revisions but the newest, including None."""
        scripts = ScriptDirectory.from_config(self.config)
        return {None, *(script.revision for script in scripts.walk_revisions())} - set(scripts.get_heads())

    def require_known(self, connection: Connection) -> None:
        """Raise UsageError if the database is at a revision that this version of Touchpoint does not have."""
        revision = self.revision(connection)
        if revision not in self.older() | set(ScriptDirectory.from_config(self.config).get_heads()):
            raise UsageError(
                f"the database is at revision {revision}, which this version of Touchpoint does not know: a "
                "newer version migrated it, or one before the first release. `touchpoint up --fresh` starts "
                "with an empty database"
            )


def _histories(package: str) -> list[_History]:
    return [_History.of(each) for each in dict.fromkeys((ENGINE, package))]


async def done(package: str, engine: AsyncEngine, looks: AsyncIterator[None]) -> bool:
    """Wait for the migrations of this version: True once they are done, False if `looks` is exhausted first.

    The database is checked once per item of `looks`. Unknown revisions count as done: they belong to a newer version,
    whose migrations are compatible with this one. If the user lacks the privilege to read revisions, they count as
    done, too.
    """
    histories = [(history, history.older()) for history in _histories(package)]
    async for _ in looks:
        try:
            async with engine.connect() as connection:
                if await connection.run_sync(
                    lambda sync: all(history.revision(sync) not in older for history, older in histories)
                ):
                    return True
        except Exception as error:
            if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
                return True
            if not is_transient(error):
                raise
    return False


def run() -> None:
    """Run migrations for Alembic; called by the `migrations/env.py` of every package."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("Run migrations with `python -m <service> migrate`; Alembic alone only writes new revisions.")
    context.configure(connection=connection, version_table=context.config.attributes["version_table"])
    with context.begin_transaction():
        context.run_migrations()
