"""Create the engine's tables, which every service has: offsets, inbox, outbox, dead letters, replays, audit trail."""

from alembic import context, op

revision = "3f1e0c9a7d52"
down_revision = None
branch_labels = None
depends_on = None

OFFSETS = """
CREATE TABLE offsets (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    cluster_id text NOT NULL,
    read_through timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- The first offset from which on the inbox is whole: whoever prunes it moves this in the same transaction. A repair
    -- from before could apply what was applied already, so it is refused.
    inbox_from bigint NOT NULL DEFAULT 0,
    -- `last_record`: a hash of the last record read, at `last_offset`; from there to `next` no record lies. All are
    -- NULL until the consumer has learned them.
    topic_id uuid,
    last_offset bigint,
    last_record bytea,
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50)
"""

INBOX = """
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL,
    payload_hash bytea NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (event_id, consumer)
)
"""

CONFLICTS = """
CREATE TABLE conflicts (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    event_id uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition, "offset")
)
"""
CONFLICTS_EVENT = "CREATE INDEX conflicts_event_id ON conflicts (event_id)"

# Records that a consumer needs and Kafka has lost: from `first` to `until` (exclusive). Once an operator has accepted
# the loss, the consumer continues at `resume_at`.
LOG_LOSSES = """
CREATE TABLE log_losses (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    first bigint NOT NULL,
    until bigint NOT NULL CHECK (first <= until),
    resume_at bigint NOT NULL,
    cluster_id text NOT NULL,
    topic_id uuid NOT NULL,
    why text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    accepted_at timestamptz,
    accepted_by text,
    PRIMARY KEY (consumer, topic, partition, found_at)
)
"""
LOG_LOSSES_OPEN = """
CREATE UNIQUE INDEX log_losses_open ON log_losses (consumer, topic, partition) WHERE accepted_at IS NULL
"""

DEAD_LETTERS = """
CREATE TABLE dead_letters (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    event_id uuid,
    tenant_id text,
    customer_id text,
    type text,
    stage text NOT NULL,
    error text NOT NULL,
    reason text NOT NULL,
    fingerprint text NOT NULL,
    state text NOT NULL DEFAULT 'open'
        CONSTRAINT dead_letters_state CHECK (state IN ('open', 'redriven', 'discarded')),
    attempt int NOT NULL DEFAULT 1,
    consumer_version text,
    traceparent text,
    failed_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    closed_reason text,
    PRIMARY KEY (consumer, topic, partition, "offset")
)
"""
DEAD_LETTERS_EVENT = "CREATE INDEX dead_letters_event_id ON dead_letters (event_id)"
DEAD_LETTERS_OPEN = """
CREATE INDEX dead_letters_open ON dead_letters (consumer, fingerprint, failed_at) WHERE state = 'open'
"""

# Every row is deleted soon after it was written. By default, autovacuum waits until a fifth of all rows is dead and is
# throttled: the table would grow with each burst, and each read of it would become slower.
OUTBOX = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    partition int,
    key bytea,
    value bytea,
    headers bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Why Kafka can never take the row, such as its size; NULL while it is to be sent.
    parked text
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
)
"""
OUTBOX_PARKED = "CREATE INDEX outbox_parked ON outbox (id) WHERE parked IS NOT NULL"
OUTBOX_GUARD = "ALTER TABLE outbox ENABLE ROW LEVEL SECURITY"

CONSUMERS = """
CREATE TABLE consumers (
    consumer text PRIMARY KEY,
    state text NOT NULL DEFAULT 'running',
    reason text,
    since timestamptz NOT NULL DEFAULT now(),
    -- How many dead letters each process may make before it halts again.
    may_skip int NOT NULL DEFAULT 0 CHECK (may_skip >= 0)
)
"""

# The event types that a consumer's handlers take, and the tables that can be rebuilt from the log alone. The worker
# stores both when it starts, because the operators' commands do not have the handlers.
SUBSCRIPTIONS = """
CREATE TABLE subscriptions (
    consumer text NOT NULL,
    type text NOT NULL,
    topic text NOT NULL,
    PRIMARY KEY (consumer, type)
)
"""
PROJECTIONS = """
CREATE TABLE projections (
    consumer text NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (consumer, name)
)
"""

PROCESSES = """
CREATE TABLE processes (
    id uuid PRIMARY KEY,
    role text NOT NULL,
    host text NOT NULL,
    pid int NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_ready text,
    -- Recurring tasks whose last run has failed, by name: {"error": …, "since": …}.
    failing jsonb NOT NULL DEFAULT '{}'
)
"""

ERASURES = """
CREATE TABLE erasures (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
)
"""
ERASURES_GUARD = "ALTER TABLE erasures ENABLE ROW LEVEL SECURITY"

# State `built`: a rebuild was compared with the live tables and waits for an operator. `swap`: whether a rebuild
# replaces the live tables once it was compared.
REPLAYS = """
CREATE TABLE replays (
    id uuid PRIMARY KEY,
    consumer text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('repair', 'redrive', 'rebuild')),
    state text NOT NULL DEFAULT 'planned'
        CHECK (state IN ('planned', 'running', 'paused', 'built', 'aborted', 'done', 'failed')),
    filter jsonb NOT NULL,
    summary jsonb NOT NULL,
    plan_hash text NOT NULL,
    cluster_id text NOT NULL,
    swap boolean NOT NULL DEFAULT false,
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
"""
# One active replay per consumer: two would apply the same missing events and compete with the live consumer. Events
# that another replay applied to the live tables during a rebuild would be missing after its swap; so a failed rebuild,
# which can be resumed, counts as active, too.
REPLAYS_UNDER_WAY = """
CREATE UNIQUE INDEX replays_under_way ON replays (consumer)
 WHERE state IN ('running', 'paused', 'built') OR (kind = 'rebuild' AND state = 'failed')
"""

# `places`: the selected offsets of a redrive; NULL: all from `start` to `end`.
REPLAY_CHECKPOINTS = """
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
"""

AUDIT = """
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
"""
REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$
"""
AUDIT_APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""

STATEMENTS = (
    OFFSETS, INBOX, CONFLICTS, CONFLICTS_EVENT, LOG_LOSSES, LOG_LOSSES_OPEN,
    DEAD_LETTERS, DEAD_LETTERS_EVENT, DEAD_LETTERS_OPEN,
    OUTBOX, OUTBOX_PARKED, OUTBOX_GUARD,
    CONSUMERS, SUBSCRIPTIONS, PROJECTIONS, PROCESSES,
    ERASURES, ERASURES_GUARD,
    REPLAYS, REPLAYS_UNDER_WAY, REPLAY_CHECKPOINTS,
    AUDIT, REFUSE_CHANGE, AUDIT_APPEND_ONLY,
)  # fmt: skip

# The columns that an API reads for the status of an event. They need no row-level security: the query needs the event's
# identity, which is derived from its tenant, source and id.
STATUS = {
    "offsets": "consumer, topic, partition, next, inbox_from",
    "inbox": 'consumer, event_id, type, topic, partition, "offset"',
    "dead_letters": 'consumer, event_id, type, state, topic, partition, "offset"',
    "conflicts": "consumer, event_id",
    "log_losses": "consumer, topic, partition, first, accepted_at",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    role = context.config.attributes["role"]
    for table, columns in STATUS.items():
        op.execute(f"GRANT SELECT ({columns}) ON {table} TO {role}")
