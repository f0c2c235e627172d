"""Outbox rows that Kafka can never take. Frozen: a change is a new module, `plumbing_v9`."""

from types import ModuleType

STATEMENTS = (
    # Why Kafka can never take the row, such as its size; NULL while it is to be sent.
    "ALTER TABLE outbox ADD COLUMN parked text",
    "CREATE INDEX outbox_parked ON outbox (id) WHERE parked IS NOT NULL",
)


def upgrade(op: ModuleType) -> None:
    """Let the relay park rows. `op` is `alembic.op`."""
    for statement in STATEMENTS:
        op.execute(statement)
