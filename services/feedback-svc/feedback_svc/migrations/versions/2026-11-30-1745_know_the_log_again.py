"""Know the log again."""

from alembic import op

from touchpoint.db import plumbing_v6

revision = "8b37e2c10f5d"
down_revision = "e5b1c7d2a940"


def upgrade() -> None:
    plumbing_v6.upgrade(op)
    plumbing_v6.allow_status(op, "feedback_svc_api")
