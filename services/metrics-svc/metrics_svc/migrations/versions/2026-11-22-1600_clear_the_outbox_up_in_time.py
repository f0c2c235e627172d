"""Clear the outbox up in time."""

from alembic import op

from touchpoint.db import plumbing_v2

revision = "20261122_1600"
down_revision = "20261122_1500"


def upgrade() -> None:
    plumbing_v2.upgrade(op)
