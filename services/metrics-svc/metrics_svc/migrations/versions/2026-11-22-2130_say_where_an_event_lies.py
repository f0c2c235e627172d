"""Say where an event lies: who has passed that place without it has missed it."""

from alembic import op

from touchpoint.db import tenants_v2

revision = "20261122_2130"
down_revision = "20261122_2100"


def upgrade() -> None:
    tenants_v2.allow_places(op, "metrics_svc_api")
