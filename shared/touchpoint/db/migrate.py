"""Migrations: in each database the engine's Alembic history and the service's own, in this order.

Safe when two start at once and while the old code still runs.
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
"""A DDL statement waiting for a lock makes every later query wait behind it: give up soon, let them pass, try again."""
ATTEMPTS = 30
PAUSE_SECONDS = 1.0
ENGINE = "touchpoint.db"
"""The package whose history every database has: the tables of the engine."""


async def upgrade(package: str, dsn: str) -> None:
    """Bring a service's database to the newest revisions of the engine and of `<package>/migrations`.

    A second one started at the same time waits for the first and then finds nothing to do. All pending revisions
    commit together or not at all; the server ends them a second after this process, whatever ended that. Raises
    UsageError when the old code holds on to a lock that is needed, and on a database of another version.
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
    """The revisions of one package, and the table that holds which of them a database is at."""

    config: Config
    table: str

    @classmethod
    def of(cls, package: str) -> Self:
        config = Config()
        config.set_main_option("script_location", str(files(package) / "migrations"))
        config.set_main_option("path_separator", "os")
        return cls(config, "engine_version" if package == ENGINE else "alembic_version")

    def revision(self, connection: Connection) -> str | None:
        """What the database is at; None before the first."""
        return MigrationContext.configure(connection, opts={"version_table": self.table}).get_current_revision()

    def older(self) -> set[str | None]:
        """All revisions before the newest."""
        scripts = ScriptDirectory.from_config(self.config)
        return {None, *(script.revision for script in scripts.walk_revisions())} - set(scripts.get_heads())

    def require_known(self, connection: Connection) -> None:
        """Raise UsageError when the database is at a revision of another version of Touchpoint."""
        revision = self.revision(connection)
        if revision not in self.older() | set(ScriptDirectory.from_config(self.config).get_heads()):
            raise UsageError(
                f"the database is at revision {revision}, which this version of Touchpoint does not know: a newer "
                "one made it, or one before the first release. `touchpoint up --fresh` starts anew, without its data"
            )


def _histories(package: str) -> list[_History]:
    return [_History.of(each) for each in dict.fromkeys((ENGINE, package))]


async def done(package: str, engine: AsyncEngine, looks: AsyncIterator[None]) -> bool:
    """Return True once the database is what this version was written for, False when the looks come to an end before.

    That is its newest revisions, or some that it does not know: a newer version's, whose migrations let this one work
    on. A login that may not look is taken to know what it does.
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
    """Body of every service's `migrations/env.py`."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("Run migrations with `python -m <service> migrate`; Alembic alone only writes new revisions.")
    context.configure(connection=connection, version_table=context.config.attributes["version_table"])
    with context.begin_transaction():
        context.run_migrations()
