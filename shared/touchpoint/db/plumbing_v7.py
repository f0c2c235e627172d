"""Which processes of the service are alive. Frozen: a change is a new module, `plumbing_v8`."""

from types import ModuleType


def upgrade(op: ModuleType) -> None:
    """Let every process report itself every two seconds. `op` is `alembic.op`."""
    op.execute("""
        CREATE TABLE processes (
            id uuid PRIMARY KEY,
            role text NOT NULL,
            host text NOT NULL,
            pid int NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            not_ready text
        )
    """)
