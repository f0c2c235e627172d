"""Say when a row was recorded, so that a poller misses nothing that comes late."""

from alembic import op

revision = "6a91d3f47e20"
down_revision = "8b37e2c10f5d"

STATEMENTS = (
    # What is in the table was read long ago; processes of the version before write rows without the column.
    "ALTER TABLE timeline ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT now()",
    "UPDATE timeline SET recorded_at = occurred_at",
    # Rows are appended in about this order: a block-range index is small, and costs an insert next to nothing.
    """
    CREATE INDEX feedback_recorded ON feedback USING brin (recorded_at)
      WITH (pages_per_range = 16, autosummarize = on)
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
