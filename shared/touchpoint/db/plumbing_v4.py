"""How many dead letters a consumer may make when it goes on. Frozen: a change is a new module, `plumbing_v5`."""

from types import ModuleType


def upgrade(op: ModuleType) -> None:
    """Whoever resumes a halted consumer can let it skip what it halted for. `op` is `alembic.op`."""
    op.execute("ALTER TABLE consumers ADD COLUMN may_skip int NOT NULL DEFAULT 0 CHECK (may_skip >= 0)")
