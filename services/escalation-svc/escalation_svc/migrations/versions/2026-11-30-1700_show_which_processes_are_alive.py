"""Show which processes are alive."""

from alembic import op

from touchpoint.db import plumbing_v7

revision = "c7e1d2a40f12"
down_revision = "2ac7b09e4f16"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v7.upgrade(op)
