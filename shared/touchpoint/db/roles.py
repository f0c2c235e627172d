"""The PostgreSQL roles of APIs, which row-level security restricts to the rows of one tenant."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from touchpoint.base.errors import UsageError
from touchpoint.base.sqlstates import INSUFFICIENT_PRIVILEGE
from touchpoint.db.engine import sqlstate

ROLE_UNUSABLE = (INSUFFICIENT_PRIVILEGE, "22023")
"""SQLSTATEs of a connection whose role does not exist or may not be assumed by its user."""

_EXISTS = text("SELECT count(*) > 0 FROM pg_roles WHERE rolname = :role")
_MAY_ACT = text("SELECT pg_has_role(oid, 'SET') FROM pg_roles WHERE rolname = :role")


def api_role(package: str) -> str:
    """The name of the role of a service's API. The service's migrations grant its privileges."""
    return f"{package.replace('.', '_')}_api"


def ensure(connection: Connection, role: str) -> None:
    """Create the role if it is missing, and grant it to the connection's user. Commits.

    Roles belong to the server, not to a database: a restored database comes without them, and the migration of another
    database may create the same role at the same time. If the user lacks the privilege, raises UsageError with the
    statements an administrator must run.
    """
    for done, statement in ((_EXISTS, f"CREATE ROLE {role} NOLOGIN"), (_MAY_ACT, f"GRANT {role} TO CURRENT_USER")):
        if connection.scalar(done, {"role": role}):
            continue
        try:
            connection.execute(text(statement))
        except DBAPIError as error:
            connection.rollback()
            if connection.scalar(done, {"role": role}):
                continue  # another migration has done it in the meantime
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            user = connection.scalar(text("SELECT current_user"))
            raise UsageError(
                f"PostgreSQL user {user} may not create role {role}: let an administrator run "
                f"`CREATE ROLE {role} NOLOGIN; GRANT {role} TO {user};`, then migrate again"
            ) from None
    connection.commit()
