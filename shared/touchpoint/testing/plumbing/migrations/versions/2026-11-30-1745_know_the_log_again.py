"""Know the log again."""

from alembic import op

from touchpoint.db import plumbing_v6

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    plumbing_v6.upgrade(op)
