"""Park what Kafka can never take."""

from alembic import op

from touchpoint.db import plumbing_v8

revision = "b7d35e1f90c4"
down_revision = "4d1e7a92c5b8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v8.upgrade(op)
