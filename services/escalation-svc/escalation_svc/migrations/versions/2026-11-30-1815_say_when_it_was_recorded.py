"""Say when a row was recorded, so that a poller misses nothing that comes late."""

from alembic import op

revision = "9d2f6b81c3e7"
down_revision = "5e1c8f20d7b3"

STATEMENTS = (
    # What is in the table was read long ago; processes of the version before write rows without the column.
    "ALTER TABLE escalations ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT now()",
    "UPDATE escalations SET recorded_at = opened_at",
    "CREATE INDEX escalations_recorded ON escalations (tenant_id, recorded_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
