"""Know when each rate was last shared: a database clock that is set back would leave every key in debt."""

from alembic import op

revision = "8c52d17e90ab"
down_revision = "e41c7d80b5f6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE rates ADD COLUMN shared_at timestamptz NOT NULL DEFAULT now()")
