"""Create feedback and the timeline."""

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

# The order of all pages, and a copy of it for the two filters that can match few rows among millions. A page by any
# other filter walks along the first: under a millisecond when the filter matches often, up to 0.4 s for each million
# rows when it matches nearly nothing. More indexes are not worth their writing: each costs a fifth of an insert's time.
ORDER = "CREATE INDEX feedback_order ON feedback (tenant_id, occurred_at, id)"
BY_CUSTOMER = """
CREATE INDEX feedback_customer ON feedback (tenant_id, customer_id, occurred_at, id) WHERE customer_id IS NOT NULL
"""
BY_SURVEY = """
CREATE INDEX feedback_survey ON feedback (tenant_id, survey_id, occurred_at, id) WHERE survey_id IS NOT NULL
"""
# Rows are appended in about this order: a block-range index is small, and costs an insert next to nothing.
BY_RECORDING = """
CREATE INDEX feedback_recorded ON feedback USING brin (recorded_at) WITH (pages_per_range = 16, autosummarize = on)
"""

# The primary key is the order of the pages: one index does it all.
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
