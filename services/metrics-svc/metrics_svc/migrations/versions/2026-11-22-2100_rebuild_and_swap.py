"""Rebuild and swap."""

from alembic import op

from touchpoint.db import plumbing_v5

revision = "20261122_2100"
down_revision = "20261122_2030"


def upgrade() -> None:
    plumbing_v5.upgrade(op)
