"""Row-level security for the migrations of services: which rows of a table the API's role sees and changes.

The owner of the tables, who runs consumers, workers and migrations, stands above tenants: no policy is for it.
Revisions call these: what they do must not change, a change is a new function.
"""

from types import ModuleType

_TENANT = "current_setting('touchpoint.tenant', true)"


def guard(op: ModuleType, table: str) -> None:
    """Close a domain table to all but its owner; `allow` opens it again, tenant by tenant. `op` is `alembic.op`."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def allow(op: ModuleType, role: str, privileges: str, table: str) -> None:
    """Let the role use a guarded table: the rows of its transaction's tenant, no others seen, made or changed."""
    op.execute(f"CREATE POLICY tenant ON {table} TO {role} USING (tenant_id = {_TENANT})")
    op.execute(f"GRANT {privileges} ON {table} TO {role}")


def allow_publishing(op: ModuleType, role: str) -> None:
    """Let the role write events of its transaction's tenant to the outbox; their keys begin with it."""
    op.execute(
        f"CREATE POLICY tenant ON outbox FOR INSERT TO {role} "
        f"WITH CHECK (starts_with(convert_from(key, 'UTF8'), {_TENANT} || ':'))"
    )
    op.execute(f"GRANT INSERT ON outbox TO {role}")
