"""Rebuild and swap."""

from alembic import op

from touchpoint.db import plumbing_v5

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    plumbing_v5.upgrade(op)
