"""Park what Kafka can never take."""

from alembic import op

from touchpoint.db import plumbing_v8

revision = "0005"
down_revision = "c7e1d2a40f14"
branch_labels = None
depends_on = None


def upgrade() -> None:
    plumbing_v8.upgrade(op)
