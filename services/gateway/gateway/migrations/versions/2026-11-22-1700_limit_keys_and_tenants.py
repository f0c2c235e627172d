"""Limit what keys may do a second, and tenants a day."""

from alembic import op

revision = "6d0f9a3c7b21"
down_revision = "7be2a90c41f3"
branch_labels = None
depends_on = None

ROLE = "gateway_api"

KEYS = "ALTER TABLE api_keys ADD COLUMN event_rate integer, ADD COLUMN request_rate integer"

QUOTAS = """
CREATE TABLE quotas (
    tenant_id text PRIMARY KEY,
    events_per_day bigint,
    day date,
    events bigint NOT NULL DEFAULT 0
)
"""

# Unlogged: what a crash loses is forgiven. With room in each page for rows that change every second.
RATES = """
CREATE UNLOGGED TABLE rates (
    prefix text,
    policy text,
    tat timestamptz NOT NULL,
    spent interval NOT NULL,
    PRIMARY KEY (prefix, policy)
) WITH (fillfactor = 50)
"""

GRANTS = (
    f"GRANT SELECT, INSERT, UPDATE ON rates TO {ROLE}",
    f"GRANT SELECT, INSERT (tenant_id, day, events), UPDATE (day, events) ON quotas TO {ROLE}",
)


def upgrade() -> None:
    for statement in (KEYS, QUOTAS, RATES, *GRANTS):
        op.execute(statement)
