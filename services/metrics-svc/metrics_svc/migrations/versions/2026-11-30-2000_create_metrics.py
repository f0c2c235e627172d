"""Create the table `rollups`, and the tables of facts that later events may regroup."""

from alembic import op

from touchpoint.db import row_security

revision = "4c8a52b1f6e0"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "metrics_svc_api"

# Free space on each page allows HOT updates: updating a count then changes no index.
ROLLUPS = """
CREATE TABLE rollups (
    tenant_id text NOT NULL,
    metric text NOT NULL,
    quarter timestamptz NOT NULL,
    scale text NOT NULL,
    channel text NOT NULL,
    segment text NOT NULL,
    tier text NOT NULL,
    bucket int NOT NULL,
    partition int NOT NULL,
    n bigint NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY (tenant_id, metric, quarter, scale, channel, segment, tier, bucket, partition)
) WITH (fillfactor = 80)
"""

CHANGES = """
CREATE TABLE changes (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    segment text,
    tier text,
    PRIMARY KEY (tenant_id, customer_id, at, recorded_at, event_id)
)
"""

ANSWERS = """
CREATE TABLE answers (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    metric text NOT NULL,
    scale text NOT NULL,
    channel text NOT NULL,
    score int NOT NULL,
    segment text NOT NULL,
    tier text NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, at, event_id)
)
"""

TICKETS = """
CREATE TABLE tickets (
    tenant_id text NOT NULL,
    ticket_id text NOT NULL,
    opened_at timestamptz,
    recorded_at timestamptz,
    event_id uuid,
    customer_id text,
    channel text,
    segment text,
    tier text,
    replies timestamptz[] NOT NULL DEFAULT '{}',
    solutions timestamptz[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, ticket_id)
) WITH (fillfactor = 80)
"""
TICKETS_CUSTOMER = """
CREATE INDEX tickets_customer ON tickets (tenant_id, customer_id, opened_at) WHERE customer_id IS NOT NULL
"""


def upgrade() -> None:
    for statement in (ROLLUPS, CHANGES, ANSWERS, TICKETS, TICKETS_CUSTOMER):
        op.execute(statement)
    for table in ("rollups", "changes", "answers", "tickets"):
        row_security.guard(op, table)
    row_security.allow(op, ROLE, "SELECT", "rollups")
