"""Clear the outbox up in time."""

from alembic import op

from touchpoint.db import plumbing_v2

revision = "e1f6a93c0d58"
down_revision = "c58f20b6e1d4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v2.upgrade(op)
