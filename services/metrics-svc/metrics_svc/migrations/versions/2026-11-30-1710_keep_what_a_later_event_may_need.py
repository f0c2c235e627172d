"""Keep what a later event may need: changes of customers, answers, ends of tickets. No order of reading decides.

What was known of a customer becomes their first change. Answers counted before this revision stay where they are; a
rebuild makes them movable, too. The table `customers` and the columns `replied_at` and `resolved_at` are no longer
used; processes of the version before may still write them.
"""

from alembic import op

from touchpoint.db import tenants_v1

revision = "20261130_1710"
down_revision = "c7e1d2a40f13"

STATEMENTS = (
    """
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
    """,
    """
    INSERT INTO changes (tenant_id, customer_id, at, recorded_at, event_id, segment, tier)
    SELECT tenant_id, customer_id, '1900-01-01Z', '1900-01-01Z', gen_random_uuid(), segment, tier FROM customers
    """,
    """
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
    """,
    """
    ALTER TABLE tickets ADD COLUMN recorded_at timestamptz, ADD COLUMN event_id uuid, ADD COLUMN customer_id text,
          ADD COLUMN replies timestamptz[] NOT NULL DEFAULT '{}',
          ADD COLUMN solutions timestamptz[] NOT NULL DEFAULT '{}'
    """,
    """
    UPDATE tickets SET recorded_at = opened_at, event_id = CASE WHEN opened_at IS NOT NULL THEN gen_random_uuid() END,
           customer_id = CASE WHEN opened_at IS NOT NULL THEN '' END,
           replies = array_remove(ARRAY[replied_at], NULL), solutions = array_remove(ARRAY[resolved_at], NULL)
    """,
    "CREATE INDEX tickets_customer ON tickets (tenant_id, customer_id, opened_at) WHERE customer_id IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in ("changes", "answers"):
        tenants_v1.guard(op, table)
