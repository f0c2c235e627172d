"""What rebuilds need. Frozen: a change is a new module, `plumbing_v6`."""

from types import ModuleType

STATEMENTS = (
    # `built`: it was compared and waits for a person. `swap`: it is to be put in the place of what is live.
    """
    ALTER TABLE replays
        ADD COLUMN swap boolean NOT NULL DEFAULT false,
        DROP CONSTRAINT replays_kind_check,
        ADD CONSTRAINT replays_kind_check CHECK (kind IN ('repair', 'redrive', 'rebuild')),
        DROP CONSTRAINT replays_state_check,
        ADD CONSTRAINT replays_state_check
            CHECK (state IN ('planned', 'running', 'paused', 'built', 'aborted', 'done', 'failed'))
    """,
    # What is applied to the live tables behind a rebuild's back would be gone after its swap: none beside it, not even
    # while it has failed and may go on.
    "DROP INDEX replays_under_way",
    """
    CREATE UNIQUE INDEX replays_under_way ON replays (consumer)
     WHERE state IN ('running', 'paused', 'built') OR (kind = 'rebuild' AND state = 'failed')
    """,
    # The tables that can be made anew from the log alone, as the consumer's worker says when it starts.
    """
    CREATE TABLE projections (
        consumer text NOT NULL,
        name text NOT NULL,
        PRIMARY KEY (consumer, name)
    )
    """,
)


def upgrade(op: ModuleType) -> None:
    """Let replays be rebuilds. `op` is `alembic.op`."""
    for statement in STATEMENTS:
        op.execute(statement)
