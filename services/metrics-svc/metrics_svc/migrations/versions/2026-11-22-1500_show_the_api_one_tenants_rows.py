"""Show the API one tenant's rows, and of those only the rollups."""

from alembic import op

from touchpoint.db import tenants_v1

revision = "20261122_1500"
down_revision = "20261122_1030"

ROLE = "metrics_svc_api"


def upgrade() -> None:
    for table in ("rollups", "customers", "tickets"):
        tenants_v1.guard(op, table)
    tenants_v1.allow(op, ROLE, "SELECT", "rollups")
    tenants_v1.allow_status(op, ROLE)
