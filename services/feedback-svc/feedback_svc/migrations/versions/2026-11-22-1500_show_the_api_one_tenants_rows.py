"""Show the API one tenant's rows."""

from alembic import op

from touchpoint.db import tenants_v1

revision = "a4c19e7d2f30"
down_revision = "6f0d3b1c9a57"
branch_labels = None
depends_on = None

ROLE = "feedback_svc_api"


def upgrade() -> None:
    for table in ("feedback", "timeline"):
        tenants_v1.guard(op, table)
        tenants_v1.allow(op, ROLE, "SELECT", table)
    tenants_v1.allow_status(op, ROLE)
