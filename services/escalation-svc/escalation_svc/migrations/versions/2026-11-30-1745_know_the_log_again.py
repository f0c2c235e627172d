"""Know the log again."""

from alembic import op

from touchpoint.db import plumbing_v6

revision = "5e1c8f20d7b3"
down_revision = "b7d35e1f90c4"


def upgrade() -> None:
    plumbing_v6.upgrade(op)
    plumbing_v6.allow_status(op, "escalation_svc_api")
