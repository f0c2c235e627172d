"""Create the plumbing tables."""

from alembic import op

from touchpoint.db import plumbing_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    plumbing_v1.upgrade(op)
