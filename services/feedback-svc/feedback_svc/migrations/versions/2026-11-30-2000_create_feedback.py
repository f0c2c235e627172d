"""Create the tables `feedback` and `timeline`."""

from alembic import op

from touchpoint.db import row_security

revision = "1d6f3b0c9a57"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "feedback_svc_api"

FEEDBACK = """
CREATE TABLE feedback (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    backfill boolean NOT NULL,
    kind text NOT NULL,
    channel text NOT NULL,
    customer_id text,
    score_value double precision,
    score_min double precision,
    score_max double precision,
    text text,
    language text,
    survey_id text,
    question_id text,
    submission_id text,
    journey_stage text,
    product text,
    PRIMARY KEY (tenant_id, id)
)
"""

# Indexes in page order: one of all rows, and one each for the two filters that match few of millions of rows. A page by
# any other filter scans the first index: under a millisecond when many rows match, up to 0.4 s for each million rows
# when almost none do. Further indexes are not worth their cost: each adds a fifth to the time of an insert.
ORDER = "CREATE INDEX feedback_order ON feedback (tenant_id, occurred_at, id)"
BY_CUSTOMER = """
CREATE INDEX feedback_customer ON feedback (tenant_id, customer_id, occurred_at, id) WHERE customer_id IS NOT NULL
"""
BY_SURVEY = """
CREATE INDEX feedback_survey ON feedback (tenant_id, survey_id, occurred_at, id) WHERE survey_id IS NOT NULL
"""
# Rows are inserted roughly in this order, so a BRIN index works: it is small and adds almost nothing to an insert.
BY_RECORDING = """
CREATE INDEX feedback_recorded ON feedback USING brin (recorded_at) WITH (pages_per_range = 16, autosummarize = on)
"""

# The primary key is in page order, so no further index is needed.
TIMELINE = """
CREATE TABLE timeline (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    type text NOT NULL,
    title text NOT NULL,
    details jsonb NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, occurred_at, id)
)
"""


def upgrade() -> None:
    for statement in (FEEDBACK, ORDER, BY_CUSTOMER, BY_SURVEY, BY_RECORDING, TIMELINE):
        op.execute(statement)
    for table in ("feedback", "timeline"):
        row_security.guard(op, table)
        row_security.allow(op, ROLE, "SELECT", table)
