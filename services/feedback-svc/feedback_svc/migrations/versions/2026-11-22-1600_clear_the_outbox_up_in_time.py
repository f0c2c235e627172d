"""Clear the outbox up in time."""

from alembic import op

from touchpoint.db import plumbing_v2

revision = "d27e4f80b6a3"
down_revision = "a4c19e7d2f30"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v2.upgrade(op)
