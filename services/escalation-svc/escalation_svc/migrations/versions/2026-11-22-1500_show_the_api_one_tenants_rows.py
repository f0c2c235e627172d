"""Show the API one tenant's rows, and let it change of them what its commands change."""

from alembic import op

from touchpoint.db import tenants_v1

revision = "c58f20b6e1d4"
down_revision = "b7d41c0e5a92"
branch_labels = None
depends_on = None

ROLE = "escalation_svc_api"
COMMANDS = "UPDATE (case_version, state, acknowledged_at, acknowledged_by, resolved_at, resolved_by, resolution)"


def upgrade() -> None:
    for table in ("escalations", "clocks", "customers"):
        tenants_v1.guard(op, table)
    tenants_v1.allow(op, ROLE, f"SELECT, {COMMANDS}", "escalations")
    tenants_v1.allow(op, ROLE, "SELECT", "clocks")
    tenants_v1.allow_publishing(op, ROLE)
    tenants_v1.allow_status(op, ROLE)
