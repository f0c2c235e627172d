"""What identifies a log beside the offsets in it. Frozen: a change is a new module, `plumbing_v7`."""

from types import ModuleType

STATEMENTS = (
    # `last_record`: a hash of the last record read, at `last_offset`; from there to `next` no record lies. All are NULL
    # until the consumer has learned them.
    "ALTER TABLE offsets ADD COLUMN topic_id uuid, ADD COLUMN last_offset bigint, ADD COLUMN last_record bytea",
    # The records from `first` up to `until` (outside) that a consumer counts on and Kafka no longer has. After the loss
    # was accepted it goes on at `resume_at`.
    """
    CREATE TABLE log_losses (
        consumer text NOT NULL,
        topic text NOT NULL,
        partition int NOT NULL,
        first bigint NOT NULL,
        until bigint NOT NULL CHECK (first <= until),
        resume_at bigint NOT NULL,
        cluster_id text NOT NULL,
        topic_id uuid NOT NULL,
        why text NOT NULL,
        found_at timestamptz NOT NULL DEFAULT now(),
        accepted_at timestamptz,
        accepted_by text,
        PRIMARY KEY (consumer, topic, partition, found_at)
    )
    """,
    "CREATE UNIQUE INDEX log_losses_open ON log_losses (consumer, topic, partition) WHERE accepted_at IS NULL",
)


def upgrade(op: ModuleType) -> None:
    """Create them. `op` is `alembic.op`."""
    for statement in STATEMENTS:
        op.execute(statement)


def allow_status(op: ModuleType, role: str) -> None:
    """Let an API's role see which offsets prove nothing about an event."""
    op.execute(f"GRANT SELECT (consumer, topic, partition, first, accepted_at) ON log_losses TO {role}")
