"""Rebuild and swap."""

from alembic import op

from touchpoint.db import plumbing_v5

revision = "9e64c20b7da1"
down_revision = "5e0c94a1d7b3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v5.upgrade(op)
