"""Create the plumbing, the rollups and the state they are counted from."""

from alembic import op

from touchpoint.db import plumbing_v1

revision = "20261122_1030"
down_revision = None

STATEMENTS = (
    # A page keeps room for the next versions of its rows: an update of a count then touches no index.
    """
    CREATE TABLE rollups (
        tenant_id text NOT NULL,
        metric text NOT NULL,
        hour timestamptz NOT NULL,
        scale text NOT NULL,
        channel text NOT NULL,
        segment text NOT NULL,
        tier text NOT NULL,
        bucket int NOT NULL,
        partition int NOT NULL,
        n bigint NOT NULL,
        total bigint NOT NULL,
        PRIMARY KEY (tenant_id, metric, hour, scale, channel, segment, tier, bucket, partition)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE customers (
        tenant_id text NOT NULL,
        customer_id text NOT NULL,
        segment text NOT NULL,
        tier text NOT NULL,
        PRIMARY KEY (tenant_id, customer_id)
    )
    """,
    """
    CREATE TABLE tickets (
        tenant_id text NOT NULL,
        ticket_id text NOT NULL,
        opened_at timestamptz,
        channel text,
        segment text,
        tier text,
        replied_at timestamptz,
        resolved_at timestamptz,
        PRIMARY KEY (tenant_id, ticket_id)
    ) WITH (fillfactor = 80)
    """,
)


def upgrade() -> None:
    plumbing_v1.upgrade(op)
    for statement in STATEMENTS:
        op.execute(statement)
