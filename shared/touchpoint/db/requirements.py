"""Requirements on the PostgreSQL server, checked at the start of a process, before a migration and by `doctor`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg

from touchpoint.base import database_url
from touchpoint.base.errors import UsageError
from touchpoint.db import databases
from touchpoint.db.engine import PINNED

_LOOK = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('server_version') AS shown_version,
       current_setting('server_encoding') AS encoding,
       current_setting('session_replication_role') AS replication_role,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('autovacuum') AS autovacuum,
       current_setting('track_activities') AS track_activities,
       coalesce(current_setting('transaction_timeout', true), '0') AS transaction_timeout,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS connections,
       d.datconnlimit AS database_limit, r.rolconnlimit AS login_limit,
       d.datcollversion IS DISTINCT FROM pg_database_collation_actual_version(d.oid) AS other_collation,
       d.datname AS database, quote_ident(d.datname) AS quoted_database,
       r.rolname AS login, quote_ident(r.rolname) AS quoted_login
  FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = session_user
"""
_ROLE = "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = $1 AND (rolsuper OR rolbypassrls)"


_SESSION = """
SELECT pg_backend_pid() AS pid, array_agg(current_setting(name) ORDER BY number) AS set
  FROM unnest($1::text[]) WITH ORDINALITY AS pinned (name, number)
"""


class Flaw(NamedTuple):
    """An unmet requirement. If it is not `fatal`, Touchpoint works, but less safely."""

    text: str
    fatal: bool


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    text: str
    fatal: bool = False


_RULES = (
    _Rule(
        lambda s: s["version"] >= 160_000, "PostgreSQL {shown_version} is too old: 16 or newer is needed", fatal=True
    ),
    _Rule(
        lambda s: s["encoding"] == "UTF8",
        "database {database} has the encoding {encoding}: create it anew with ENCODING 'UTF8' TEMPLATE template0",
        fatal=True,
    ),
    _Rule(
        lambda s: s["replication_role"] == "origin",
        "session_replication_role is {replication_role} for {login}, so triggers and foreign keys are off: "
        "ALTER ROLE {quoted_login} RESET session_replication_role",
        fatal=True,
    ),
    _Rule(lambda s: s["fsync"] == "on", "fsync is off: a crash of its machine can destroy the database"),
    _Rule(
        lambda s: s["full_page_writes"] == "on",
        "full_page_writes is off: a crash of its machine can destroy the database",
    ),
    _Rule(
        lambda s: s["synchronous_commit"] != "off",
        "synchronous_commit is off: a crash loses what the API has just confirmed (events are read again from Kafka)",
    ),
    _Rule(lambda s: s["autovacuum"] == "on", "autovacuum is off: tables grow without end and queries become slow"),
    _Rule(
        lambda s: s["track_activities"] == "on",
        "track_activities is off: a frozen consumer that holds locks is not noticed, and must be ended by hand",
    ),
    _Rule(
        lambda s: s["transaction_timeout"] == "0",
        "transaction_timeout is {transaction_timeout}: replays, rebuilds and `touchpoint verify` need transactions "
        "that last minutes",
    ),
    _Rule(
        lambda s: not s["other_collation"],
        "database {database} was made with another version of its collation (the operating system's library has "
        "changed), so indexes of text may miss rows: REINDEX DATABASE {quoted_database}; "
        "ALTER DATABASE {quoted_database} REFRESH COLLATION VERSION",
    ),
)


async def require(dsn: str, *, connections: int = 0, role: str | None = None) -> list[str]:
    """Check as `look` does; raises UsageError if a flaw is fatal, else returns the texts of all flaws."""
    flaws = await look(dsn, connections=connections, role=role)
    if fatal := [flaw.text for flaw in flaws if flaw.fatal]:
        raise UsageError(f"{database_url.without_password(dsn)}: {'; '.join(fatal)}")
    return [flaw.text for flaw in flaws]


async def look(dsn: str, *, connections: int = 0, role: str | None = None) -> list[Flaw]:
    """The flaws of the server, fatal ones first. Raises UnreachableError, and UsageError behind a connection pooler.

    `connections`: number of connections this process may open. `role`: the API's role, which must not be able to
    bypass row-level security.
    """
    await refuse_pooler(dsn)
    async with databases.connected(dsn) as connection:
        server = await connection.fetchrow(_LOOK)
        seeing_all = role and await connection.fetchval(_ROLE, role)
    flaws = [Flaw(rule.text.format(**server), rule.fatal) for rule in _RULES if not rule.holds(server)]
    if seeing_all:
        text = f"role {role} may see every tenant's rows: ALTER ROLE {seeing_all} NOSUPERUSER NOBYPASSRLS"
        flaws.append(Flaw(text, fatal=True))
    limits = {"max_connections": "connections", "the database's CONNECTION LIMIT": "database_limit"}
    limits |= {f"CONNECTION LIMIT of {server['login']}": "login_limit"}
    for name, column in limits.items():
        if 0 <= server[column] < connections:
            text = f"{name} leaves {server[column]} connections; this process may need {connections}"
            flaws.append(Flaw(text, fatal=False))
    return sorted(flaws, key=lambda flaw: not flaw.fatal)


async def refuse_pooler(dsn: str) -> None:
    """Raise UsageError behind a connection pooler: if connections share sessions, or lack the requested settings.

    A pooler in transaction mode gives the session of one transaction to another client. A pooler that ignores settings
    would also ignore the API's role, and with it row-level security between tenants.
    """
    async with databases.connected(dsn) as first, databases.connected(dsn) as second:
        try:
            before = await _session(first)
            async with second.transaction():
                other = await second.fetchrow(_SESSION, list(PINNED))
                after = await _session(first)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
            before = other = after = None  # the session has prepared statements of another client
    is_shared = before is None or before["pid"] != after["pid"] or before["pid"] == other["pid"]
    if is_shared or before["set"] != list(PINNED.values()):
        raise UsageError(f"{database_url.without_password(dsn)}: {databases.POOLER}")


async def _session(connection: asyncpg.Connection) -> asyncpg.Record:
    async with connection.transaction():
        return await connection.fetchrow(_SESSION, list(PINNED))
