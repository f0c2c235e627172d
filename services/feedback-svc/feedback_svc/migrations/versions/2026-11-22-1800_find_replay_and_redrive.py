"""Find, replay and redrive."""

from alembic import op

from touchpoint.db import plumbing_v3

revision = "bf13d37464a3"
down_revision = "d27e4f80b6a3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v3.upgrade(op)
