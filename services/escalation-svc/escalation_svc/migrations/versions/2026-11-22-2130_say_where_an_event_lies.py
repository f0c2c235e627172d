"""Say where an event lies: who has passed that place without it has missed it."""

from alembic import op

from touchpoint.db import tenants_v2

revision = "2ac7b09e4f16"
down_revision = "9e64c20b7da1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tenants_v2.allow_places(op, "escalation_svc_api")
