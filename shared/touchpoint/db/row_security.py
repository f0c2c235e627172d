"""Row-level security for the migrations of services: which rows of a table the API's role may read and write.

The owner of the tables, as which consumers, workers and migrations connect, is exempt from all policies. Published
migrations call these functions, so their effect must not change: add a new function instead.
"""

from types import ModuleType

_TENANT = "current_setting('touchpoint.tenant', true)"


def guard(op: ModuleType, table: str) -> None:
    """Enable row-level security, so that only the owner sees rows until `allow`. `op` is `alembic.op`."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def allow(op: ModuleType, role: str, privileges: str, table: str) -> None:
    """Grant the role privileges on a guarded table, for rows of the transaction's tenant only."""
    op.execute(f"CREATE POLICY tenant ON {table} TO {role} USING (tenant_id = {_TENANT})")
    op.execute(f"GRANT {privileges} ON {table} TO {role}")


def allow_publishing(op: ModuleType, role: str) -> None:
    """Let the role insert events of the transaction's tenant into the outbox: rows whose key starts with the tenant."""
    op.execute(
        f"CREATE POLICY tenant ON outbox FOR INSERT TO {role} "
        f"WITH CHECK (starts_with(convert_from(key, 'UTF8'), {_TENANT} || ':'))"
    )
    op.execute(f"GRANT INSERT ON outbox TO {role}")
