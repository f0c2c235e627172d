"""Find, replay and redrive."""

from alembic import op

from touchpoint.db import plumbing_v3

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    plumbing_v3.upgrade(op)
