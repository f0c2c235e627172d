"""When the outbox is vacuumed. Frozen: a change is a new module, `plumbing_v3`."""

from types import ModuleType


def upgrade(op: ModuleType) -> None:
    """Clear up behind the relay whenever PostgreSQL looks (each minute, as it comes). `op` is `alembic.op`.

    Every row is deleted soon after it was written. By default a fifth of all rows must be dead first, and the work is
    slowed down: the table then grows with each burst and is read ever more slowly.
    """
    op.execute(
        "ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, "
        "autovacuum_vacuum_cost_delay = 0)"
    )
