"""Keep the headers of an answer under its Idempotency-Key, such as Location and ETag."""

from alembic import op

revision = "c2a7f0d91b64"
down_revision = "5b1f6c5d2a90"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE idempotency_keys ADD COLUMN headers jsonb NOT NULL DEFAULT '{}'")
