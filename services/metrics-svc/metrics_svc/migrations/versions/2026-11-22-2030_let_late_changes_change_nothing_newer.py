"""Remember who had the last word on a customer, so that changes which come late change nothing newer."""

from alembic import op

revision = "20261122_2030"
down_revision = "20261122_1840"


def upgrade() -> None:
    op.execute("ALTER TABLE customers ADD COLUMN told jsonb NOT NULL DEFAULT '{}'")
