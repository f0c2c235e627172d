"""Say where an event lies: who has passed that place without it has missed it."""

from alembic import op

from touchpoint.db import tenants_v2

revision = "d04f8a6b3c27"
down_revision = "71ad3e5f08c9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tenants_v2.allow_places(op, "feedback_svc_api")
