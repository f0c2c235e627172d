"""Let a halted consumer skip what it halted for."""

from alembic import op

from touchpoint.db import plumbing_v4

revision = "20261122_1840"
down_revision = "20261122_1800"


def upgrade() -> None:
    plumbing_v4.upgrade(op)
