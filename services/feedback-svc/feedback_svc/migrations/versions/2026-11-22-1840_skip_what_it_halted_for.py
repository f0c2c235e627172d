"""Let a halted consumer skip what it halted for."""

from alembic import op

from touchpoint.db import plumbing_v4

revision = "5c1e94a0d7b2"
down_revision = "bf13d37464a3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v4.upgrade(op)
