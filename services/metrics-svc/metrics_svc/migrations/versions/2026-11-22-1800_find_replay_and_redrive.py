"""Find, replay and redrive."""

from alembic import op

from touchpoint.db import plumbing_v3

revision = "20261122_1800"
down_revision = "20261122_1600"


def upgrade() -> None:
    plumbing_v3.upgrade(op)
