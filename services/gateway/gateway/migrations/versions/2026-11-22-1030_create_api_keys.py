"""Create API keys."""

from alembic import op

revision = "0b1f6c5d2a90"
down_revision = None
branch_labels = None
depends_on = None

API_KEYS = """
CREATE TABLE api_keys (
    prefix text PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    secret_hash bytea NOT NULL,
    previous_hash bytea,
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz
)
"""


def upgrade() -> None:
    op.execute(API_KEYS)
