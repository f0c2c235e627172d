"""Know the log again."""

from alembic import op

from touchpoint.db import plumbing_v6

revision = "20261130_1745"
down_revision = "20261130_1720"


def upgrade() -> None:
    plumbing_v6.upgrade(op)
    plumbing_v6.allow_status(op, "metrics_svc_api")
