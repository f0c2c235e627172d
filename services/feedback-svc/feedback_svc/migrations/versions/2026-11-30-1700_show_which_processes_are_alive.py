"""Show which processes are alive."""

from alembic import op

from touchpoint.db import plumbing_v7

revision = "c7e1d2a40f11"
down_revision = "d04f8a6b3c27"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v7.upgrade(op)
