"""What finding, replaying and redriving need. Frozen: a change is a new module, `plumbing_v4`."""

from types import ModuleType

STATEMENTS = (
    """
    ALTER TABLE dead_letters
        ADD COLUMN attempt int NOT NULL DEFAULT 1,
        ADD COLUMN consumer_version text,
        ADD COLUMN traceparent text,
        ADD COLUMN customer_id text,
        ADD COLUMN closed_at timestamptz,
        ADD COLUMN closed_reason text,
        ADD CONSTRAINT dead_letters_state CHECK (state IN ('open', 'redriven', 'discarded'))
    """,
    "CREATE INDEX dead_letters_open ON dead_letters (consumer, fingerprint, failed_at) WHERE state = 'open'",
    # The first offset from which on the inbox is whole: whoever prunes it moves this in the same transaction. A repair
    # from before could apply what was applied already, so it is refused.
    "ALTER TABLE offsets ADD COLUMN inbox_from bigint NOT NULL DEFAULT 0",
    # What a consumer's handlers want, as its worker says when it starts: commands know no handlers.
    """
    CREATE TABLE subscriptions (
        consumer text NOT NULL,
        type text NOT NULL,
        topic text NOT NULL,
        PRIMARY KEY (consumer, type)
    )
    """,
    """
    CREATE TABLE erasures (
        tenant_id text NOT NULL,
        customer_id text NOT NULL,
        erased_at timestamptz NOT NULL DEFAULT now(),
        by text NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (tenant_id, customer_id)
    )
    """,
    "ALTER TABLE erasures ENABLE ROW LEVEL SECURITY",
    """
    CREATE TABLE replays (
        id uuid PRIMARY KEY,
        consumer text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('repair', 'redrive')),
        state text NOT NULL DEFAULT 'planned'
            CHECK (state IN ('planned', 'running', 'paused', 'aborted', 'done', 'failed')),
        filter jsonb NOT NULL,
        summary jsonb NOT NULL,
        plan_hash text NOT NULL,
        cluster_id text NOT NULL,
        rate int CHECK (rate > 0),
        max_errors int NOT NULL DEFAULT 0 CHECK (max_errors >= 0),
        reason text,
        planned_by text NOT NULL,
        requested_by text,
        planned_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        ended_at timestamptz,
        error text
    )
    """,
    # One under way for each consumer: two would race for the same gaps and share one rate with the live stream.
    "CREATE UNIQUE INDEX replays_under_way ON replays (consumer) WHERE state IN ('running', 'paused')",
    # `places`: of a redrive, the offsets chosen; NULL: all from `start` to `end`.
    """
    CREATE TABLE replay_checkpoints (
        replay_id uuid NOT NULL REFERENCES replays ON DELETE CASCADE,
        topic text NOT NULL,
        partition int NOT NULL,
        start bigint NOT NULL,
        "end" bigint NOT NULL,
        places bigint[],
        next bigint NOT NULL,
        matched bigint NOT NULL DEFAULT 0,
        applied bigint NOT NULL DEFAULT 0,
        already_applied bigint NOT NULL DEFAULT 0,
        failed bigint NOT NULL DEFAULT 0,
        erased bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (replay_id, topic, partition),
        CHECK (start <= next AND next <= "end"),
        CONSTRAINT nothing_vanishes CHECK (matched = applied + already_applied + failed + erased)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        who text NOT NULL,
        action text NOT NULL,
        subject text NOT NULL,
        reason text,
        plan_id uuid,
        plan_hash text,
        matched bigint,
        applied bigint,
        already_applied bigint,
        failed bigint,
        erased bigint,
        details jsonb NOT NULL DEFAULT '{}',
        CONSTRAINT nothing_vanishes CHECK (matched = applied + already_applied + failed + erased)
    )
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)


def upgrade(op: ModuleType) -> None:
    """Create them. `op` is `alembic.op`. No API's role may see them: who may replay asks at the gateway."""
    for statement in STATEMENTS:
        op.execute(statement)
