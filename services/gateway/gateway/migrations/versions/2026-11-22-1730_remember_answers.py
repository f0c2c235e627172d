"""Remember answers by Idempotency-Key."""

from alembic import op

from touchpoint.db import tenants_v1

revision = "e41c7d80b5f6"
down_revision = "6d0f9a3c7b21"
branch_labels = None
depends_on = None

ROLE = "gateway_api"

KEYS = """
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
BY_AGE = "CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at)"

# The API sees one tenant's rows, and has to delete all that have expired: it may call this, which acts as the owner.
FORGET = """
CREATE FUNCTION forget_answers() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'DELETE FROM public.idempotency_keys WHERE expires_at < now()'
"""


def upgrade() -> None:
    op.execute(KEYS)
    op.execute(BY_AGE)
    tenants_v1.guard(op, "idempotency_keys")
    tenants_v1.allow(op, ROLE, "SELECT, INSERT, UPDATE, DELETE", "idempotency_keys")
    op.execute(FORGET)
    op.execute("REVOKE ALL ON FUNCTION forget_answers() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION forget_answers() TO {ROLE}")
