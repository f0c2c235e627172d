"""The plumbing tables as a service's first migration creates them. Frozen: a change is a new module, `plumbing_v2`."""

from types import ModuleType

STATEMENTS = (
    """
    CREATE TABLE offsets (
        consumer text NOT NULL,
        topic text NOT NULL,
        partition int NOT NULL,
        next bigint NOT NULL,
        cluster_id text NOT NULL,
        read_through timestamptz,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, topic, partition)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE inbox (
        consumer text NOT NULL,
        event_id uuid NOT NULL,
        type text NOT NULL,
        payload_hash bytea NOT NULL,
        topic text NOT NULL,
        partition int NOT NULL,
        "offset" bigint NOT NULL,
        PRIMARY KEY (event_id, consumer)
    )
    """,
    """
    CREATE TABLE conflicts (
        consumer text NOT NULL,
        topic text NOT NULL,
        partition int NOT NULL,
        "offset" bigint NOT NULL,
        event_id uuid NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, topic, partition, "offset")
    )
    """,
    "CREATE INDEX conflicts_event_id ON conflicts (event_id)",
    """
    CREATE TABLE dead_letters (
        consumer text NOT NULL,
        topic text NOT NULL,
        partition int NOT NULL,
        "offset" bigint NOT NULL,
        event_id uuid,
        tenant_id text,
        type text,
        stage text NOT NULL,
        error text NOT NULL,
        reason text NOT NULL,
        fingerprint text NOT NULL,
        state text NOT NULL DEFAULT 'open',
        failed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, topic, partition, "offset")
    )
    """,
    "CREATE INDEX dead_letters_event_id ON dead_letters (event_id)",
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        topic text NOT NULL,
        partition int,
        key bytea,
        value bytea,
        headers bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE consumers (
        consumer text PRIMARY KEY,
        state text NOT NULL DEFAULT 'running',
        reason text,
        since timestamptz NOT NULL DEFAULT now()
    )
    """,
)


def upgrade(op: ModuleType) -> None:
    """Create them. `op` is `alembic.op`."""
    for statement in STATEMENTS:
        op.execute(statement)
