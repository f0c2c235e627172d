"""Let the API read keys and note their last use. It makes and changes none: commands do, as the tables' owner."""

from alembic import op

revision = "7be2a90c41f3"
down_revision = "0b1f6c5d2a90"
branch_labels = None
depends_on = None

ROLE = "gateway_api"


def upgrade() -> None:
    op.execute(f"GRANT SELECT, UPDATE (last_used_at) ON api_keys TO {ROLE}")
