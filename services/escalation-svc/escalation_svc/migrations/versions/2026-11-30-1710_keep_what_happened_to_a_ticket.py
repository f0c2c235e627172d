"""Keep what happened to a ticket, and which event each fact of a customer is from, so that no order of reading decides.

What is known of a clock so far becomes its history: the opening, the reply and the closing it remembers. Until the
first event after this revision nothing is known of where a customer's facts are from: the next event wins.
"""

from alembic import op

revision = "4d1e7a92c5b8"
down_revision = "c7e1d2a40f12"
branch_labels = None
depends_on = None

HISTORY = """
UPDATE clocks SET history = known.history
  FROM (
    SELECT clocks.tenant_id, clock_id, jsonb_agg(transition ORDER BY n) AS history
      FROM clocks, LATERAL (VALUES
        (1, jsonb_build_object('step', 'opened', 'cause', cause, 'terms', jsonb_build_object(
                'customer_id', customer_id, 'priority', priority, 'target_seconds', target_seconds,
                'warn_seconds', extract(epoch FROM warn_at - due_at) + target_seconds)), cause IS NOT NULL),
        (2, jsonb_build_object('step', 'replied', 'cause', jsonb_build_object(
                'id', 'replied', 'source', '/migrated/' || clock_id, 'tenant', clocks.tenant_id,
                'time', to_jsonb(fulfilled_at), 'recorded', to_jsonb(fulfilled_at))), fulfilled_at IS NOT NULL),
        (3, jsonb_build_object('step', 'closed', 'cause', jsonb_build_object(
                'id', 'closed', 'source', '/migrated/' || clock_id, 'tenant', clocks.tenant_id,
                'time', to_jsonb(closed_at), 'recorded', to_jsonb(closed_at))), closed_at IS NOT NULL)
      ) AS found (n, transition, is_known)
     WHERE is_known
     GROUP BY clocks.tenant_id, clock_id
  ) AS known
 WHERE clocks.tenant_id = known.tenant_id AND clocks.clock_id = known.clock_id
"""


def upgrade() -> None:
    op.execute("ALTER TABLE customers ADD COLUMN latest jsonb NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE clocks ALTER COLUMN customer_id DROP NOT NULL")
    op.execute("ALTER TABLE clocks ADD COLUMN history jsonb NOT NULL DEFAULT '[]'")
    op.execute(HISTORY)
