"""Remember who had the last word on a customer, so that changes which come late change nothing newer."""

from alembic import op

revision = "5e0c94a1d7b3"
down_revision = "3b8d51c7e2f4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE customers ADD COLUMN told jsonb NOT NULL DEFAULT '{}'")
