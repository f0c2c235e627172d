"""Show which processes are alive."""

from alembic import op

from touchpoint.db import plumbing_v7

revision = "c7e1d2a40f14"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v7.upgrade(op)
