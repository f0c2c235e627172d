"""Rebuild and swap."""

from alembic import op

from touchpoint.db import plumbing_v5

revision = "71ad3e5f08c9"
down_revision = "5c1e94a0d7b2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v5.upgrade(op)
