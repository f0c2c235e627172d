"""Let a halted consumer skip what it halted for."""

from alembic import op

from touchpoint.db import plumbing_v4

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    plumbing_v4.upgrade(op)
