"""Let a halted consumer skip what it halted for."""

from alembic import op

from touchpoint.db import plumbing_v4

revision = "3b8d51c7e2f4"
down_revision = "82b087a30945"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v4.upgrade(op)
