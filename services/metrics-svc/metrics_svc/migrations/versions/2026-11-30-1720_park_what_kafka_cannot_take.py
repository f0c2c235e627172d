"""Park what Kafka can never take."""

from alembic import op

from touchpoint.db import plumbing_v8

revision = "20261130_1720"
down_revision = "20261130_1710"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v8.upgrade(op)
