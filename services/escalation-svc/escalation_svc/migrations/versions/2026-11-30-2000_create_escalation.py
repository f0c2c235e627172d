"""Create customers, clocks and escalations."""

from alembic import op

from touchpoint.db import row_security

revision = "2e7d41c0e5a9"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "escalation_svc_api"
COMMANDS = "UPDATE (case_version, state, acknowledged_at, acknowledged_by, resolved_at, resolved_by, resolution)"
"""The columns of a case that acknowledging and resolving change."""

CUSTOMERS = """
CREATE TABLE customers (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    account_id text,
    tier text,
    segment text,
    owner text,
    region text,
    lifecycle_stage text,
    annual_recurring_revenue numeric(18, 2),
    currency text,
    -- By field: the event that set it, so that an older event consumed later changes nothing.
    latest jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, customer_id)
)
"""

# A clock is updated two or three times: free space on its page allows most updates to be HOT (heap-only tuple).
CLOCKS = """
CREATE TABLE clocks (
    tenant_id text NOT NULL,
    clock_id uuid NOT NULL,
    ticket_id text NOT NULL,
    customer_id text,
    state text NOT NULL,
    priority text NOT NULL,
    target_seconds int NOT NULL,
    warn_at timestamptz,
    due_at timestamptz,
    warned boolean NOT NULL,
    fulfilled_at timestamptz,
    closed_at timestamptz,
    cause jsonb,
    version int NOT NULL,
    topic text,
    partition int,
    wake_at timestamptz,
    -- The ticket's events that can matter: state follows from them, in whatever order they were consumed.
    history jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant_id, clock_id)
) WITH (fillfactor = 80)
"""

# The timer queries each partition for clocks due before the consumer's position. Only active clocks are indexed.
CLOCKS_WAKE = "CREATE INDEX clocks_wake ON clocks (topic, partition, wake_at) WHERE wake_at IS NOT NULL"

ESCALATIONS = """
CREATE TABLE escalations (
    tenant_id text NOT NULL,
    escalation_id uuid NOT NULL,
    case_version int NOT NULL,
    customer_id text,
    reason text NOT NULL,
    policy text NOT NULL,
    priority text NOT NULL,
    state text NOT NULL,
    feedback_id uuid,
    ticket_id text,
    opened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text,
    resolved_at timestamptz,
    resolved_by text,
    resolution text,
    PRIMARY KEY (tenant_id, escalation_id)
)
"""

# Indexes for: page order; unresolved cases, the list people open most; a customer's cases; a ticket's cases; and
# polling by time of recording.
ESCALATIONS_ORDER = "CREATE INDEX escalations_order ON escalations (tenant_id, opened_at, escalation_id)"
ESCALATIONS_UNRESOLVED = """
CREATE INDEX escalations_unresolved ON escalations (tenant_id, state, opened_at, escalation_id)
 WHERE state <> 'resolved'
"""
ESCALATIONS_CUSTOMER = """
CREATE INDEX escalations_customer ON escalations (tenant_id, customer_id, opened_at, escalation_id)
"""
ESCALATIONS_TICKET = """
CREATE INDEX escalations_ticket ON escalations (tenant_id, ticket_id) WHERE ticket_id IS NOT NULL
"""
ESCALATIONS_RECORDED = "CREATE INDEX escalations_recorded ON escalations (tenant_id, recorded_at)"


def upgrade() -> None:
    for statement in (
        CUSTOMERS,
        CLOCKS,
        CLOCKS_WAKE,
        ESCALATIONS,
        ESCALATIONS_ORDER,
        ESCALATIONS_UNRESOLVED,
        ESCALATIONS_CUSTOMER,
        ESCALATIONS_TICKET,
        ESCALATIONS_RECORDED,
    ):
        op.execute(statement)
    for table in ("escalations", "clocks", "customers"):
        row_security.guard(op, table)
    row_security.allow(op, ROLE, f"SELECT, {COMMANDS}", "escalations")
    row_security.allow(op, ROLE, "SELECT", "clocks")
    row_security.allow_publishing(op, ROLE)
