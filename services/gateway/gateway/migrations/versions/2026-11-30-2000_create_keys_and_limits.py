"""Create API keys, their limits, tenants' quotas, and the answers kept by Idempotency-Key."""

from alembic import op

from touchpoint.db import row_security

revision = "5b1f6c5d2a90"
down_revision = None
branch_labels = None
depends_on = None

ROLE = "gateway_api"

API_KEYS = """
CREATE TABLE api_keys (
    prefix text PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    secret_hash bytea NOT NULL,
    previous_hash bytea,
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    event_rate integer,
    request_rate integer
)
"""

QUOTAS = """
CREATE TABLE quotas (
    tenant_id text PRIMARY KEY,
    events_per_day bigint,
    day date,
    events bigint NOT NULL DEFAULT 0
)
"""

# Unlogged: after a crash the table is empty, which only resets the rates. The fillfactor leaves room in each page for
# rows that change every second. `shared_at`: a database clock that is set back would otherwise leave every key in debt.
RATES = """
CREATE UNLOGGED TABLE rates (
    prefix text,
    policy text,
    tat timestamptz NOT NULL,
    spent interval NOT NULL,
    shared_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (prefix, policy)
) WITH (fillfactor = 50)
"""

IDEMPOTENCY_KEYS = """
CREATE TABLE idempotency_keys (
    tenant_id text,
    key text,
    fingerprint bytea NOT NULL,
    claim uuid NOT NULL,
    leased_until timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    status integer,
    content_type text NOT NULL DEFAULT '',
    body bytea NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, key)
)
"""
IDEMPOTENCY_KEYS_AGE = "CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at)"

# Row-level security shows the API the rows of one tenant. It deletes the expired rows of all tenants by this function,
# which runs with the rights of the tables' owner.
FORGET = """
CREATE FUNCTION forget_answers() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'DELETE FROM public.idempotency_keys WHERE expires_at < now()'
"""

# The API neither creates nor changes keys: operators' commands do, as the tables' owner.
GRANTS = (
    f"GRANT SELECT, UPDATE (last_used_at) ON api_keys TO {ROLE}",
    f"GRANT SELECT, INSERT, UPDATE ON rates TO {ROLE}",
    f"GRANT SELECT, INSERT (tenant_id, day, events), UPDATE (day, events) ON quotas TO {ROLE}",
    "REVOKE ALL ON FUNCTION forget_answers() FROM PUBLIC",
    f"GRANT EXECUTE ON FUNCTION forget_answers() TO {ROLE}",
)


def upgrade() -> None:
    for statement in (API_KEYS, QUOTAS, RATES, IDEMPOTENCY_KEYS, IDEMPOTENCY_KEYS_AGE, FORGET, *GRANTS):
        op.execute(statement)
    row_security.guard(op, "idempotency_keys")
    row_security.allow(op, ROLE, "SELECT, INSERT, UPDATE, DELETE", "idempotency_keys")
