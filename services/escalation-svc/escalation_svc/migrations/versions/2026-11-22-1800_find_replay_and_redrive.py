"""Find, replay and redrive."""

from alembic import op

from touchpoint.db import plumbing_v3

revision = "82b087a30945"
down_revision = "e1f6a93c0d58"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v3.upgrade(op)
