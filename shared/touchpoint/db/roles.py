"""The roles of PostgreSQL that APIs act as: such a role sees one tenant's rows, and of the rest what it must."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from touchpoint.base.errors import UsageError
from touchpoint.base.sqlstates import INSUFFICIENT_PRIVILEGE
from touchpoint.db.engine import sqlstate

ROLE_UNUSABLE = (INSUFFICIENT_PRIVILEGE, "22023")
"""SQLSTATEs of a connection that is to act as a role it may not act as, or that does not exist."""

_THERE = text("SELECT count(*) > 0 FROM pg_roles WHERE rolname = :role")
_MAY_ACT = text("SELECT pg_has_role(oid, 'SET') FROM pg_roles WHERE rolname = :role")


def api_role(package: str) -> str:
    """The role that the API of a service acts as. What it may do, the service's migrations say."""
    return f"{package.replace('.', '_')}_api"


def ensure(connection: Connection, role: str) -> None:
    """Create the role where it is missing, and let the connection's user act as it. Commits.

    Roles belong to the server, not to a database: a restored database has none, and another database's migration may
    be creating the same one. Raises UsageError when this user has no right to, naming what an administrator must do.
    """
    for done, statement in ((_THERE, f"CREATE ROLE {role} NOLOGIN"), (_MAY_ACT, f"GRANT {role} TO CURRENT_USER")):
        if connection.scalar(done, {"role": role}):
            continue
        try:
            connection.execute(text(statement))
        except DBAPIError as error:
            connection.rollback()
            if connection.scalar(done, {"role": role}):
                continue  # another one was faster
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            user = connection.scalar(text("SELECT current_user"))
            raise UsageError(
                f"PostgreSQL user {user} may not create role {role}: let an administrator run "
                f"`CREATE ROLE {role} NOLOGIN; GRANT {role} TO {user};`, then migrate again"
            ) from None
    connection.commit()
