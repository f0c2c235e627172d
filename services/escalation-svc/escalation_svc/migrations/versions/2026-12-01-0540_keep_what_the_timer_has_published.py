"""Keep what the timer has published about a clock."""

from alembic import op

revision = "7c1d5b08e3f4"
down_revision = "2e7d41c0e5a9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE clocks ADD COLUMN fired jsonb NOT NULL DEFAULT '[]'")
