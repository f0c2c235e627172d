"""Rules for the tables of every service, and for the migrations that create them."""

import asyncio
from importlib import import_module

import asyncpg
import pytest
from sqlalchemy.dialects import postgresql

from touchpoint.db import migrate
from touchpoint.db.listing import Listing
from touchpoint.db.tables import Table
from touchpoint.testing import declarations, modules

PACKAGES = ["escalation_svc", "feedback_svc", "gateway", "metrics_svc"]

COLUMNS = """
SELECT table_name, column_name, udt_name, is_nullable = 'YES' AS nullable
  FROM information_schema.columns WHERE table_schema = 'public'
"""
UNIQUE = """
SELECT c.relname AS table, a.attname AS first
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE i.indisunique
"""
PRIMARY_KEYS = """
SELECT c.relname AS table, array_agg(a.attname ORDER BY array_position(i.indkey, a.attnum)) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
 WHERE i.indisprimary
 GROUP BY 1
"""
INDEXES = """
SELECT c.relname AS table, array_agg(a.attname::text ORDER BY array_position(i.indkey, a.attnum)) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
 WHERE i.indpred IS NULL
 GROUP BY i.indexrelid, 1
"""
PLUMBING = {
    "alembic_version", "audit", "conflicts", "consumers", "dead_letters", "engine_version", "erasures", "inbox",
    "log_losses", "offsets", "outbox", "processes", "projections", "replay_checkpoints", "replays", "subscriptions",
}  # fmt: skip
ABOVE_TENANTS = PLUMBING | {"api_keys", "rates"}
"""Tables whose rows are read before the tenant is known, or belong to no tenant."""

TYPES = {
    "BIGINT": "int8",
    "BOOLEAN": "bool",
    "BYTEA": "bytea",
    "DATE": "date",
    "DOUBLE PRECISION": "float8",
    "FLOAT": "float8",
    "INTEGER": "int4",
    "JSONB": "jsonb",
    "TEXT": "text",
    "TEXT[]": "_text",
    "NUMERIC": "numeric",
    "TIMESTAMPTZ": "timestamptz",
    "TIMESTAMPTZ[]": "_timestamptz",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "TIMESTAMP WITH TIME ZONE[]": "_timestamptz",
    "UUID": "uuid",
    "VARCHAR": "text",
}
"""PostgreSQL's internal name for each type name of SQLAlchemy and `touchpoint.db.tables`."""


@pytest.mark.parametrize("package", PACKAGES)
async def test_two_concurrent_upgrades_create_one_schema(package, empty_database):
    await asyncio.gather(*(migrate.upgrade(package, empty_database) for _ in range(2)))
    declared = {table for table, *_ in _models(package)}
    assert declared <= {row["table_name"] for row in await _fetch(empty_database, COLUMNS)}


@pytest.mark.parametrize("package", PACKAGES)
async def test_an_upgrade_of_the_newest_schema_changes_nothing(package, empty_database):
    await migrate.upgrade(package, empty_database)
    before = await _fetch(empty_database, COLUMNS)
    await migrate.upgrade(package, empty_database)
    assert await _fetch(empty_database, COLUMNS) == before


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_migrated_columns_match_the_models(package, database):
    declared = _models(package)
    assert declared
    actual = {tuple(row) for row in await _fetch(await database(package), COLUMNS)}
    tables = {table for table, *_ in declared}
    assert {column for column in actual if column[0] in tables} == declared


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_declared_keys_match_the_primary_keys(package, database):
    keys = await _fetch(await database(package), PRIMARY_KEYS)
    actual = {row["table"]: tuple(row["columns"]) for row in keys}
    declared = {table.name: table.key for table in declarations(package, "models", Table)}
    assert {name: actual[name] for name in declared} == declared


@pytest.mark.parametrize("package", ["escalation_svc", "feedback_svc", "metrics_svc"])
async def test_verify_and_rebuild_cover_every_domain_table(package, database):
    tables = {row["table_name"] for row in await _fetch(await database(package), COLUMNS)}
    assert set(import_module(f"{package}.verify").subject().tables) == tables - PLUMBING


@pytest.mark.parametrize("package", PACKAGES)
async def test_unique_keys_of_domain_tables_begin_with_the_tenant(package, database):
    constraints = {tuple(row) for row in await _fetch(await database(package), UNIQUE)}
    assert constraints
    assert {first for table, first in constraints if table not in ABOVE_TENANTS} <= {"tenant_id"}


@pytest.mark.parametrize("package", PACKAGES)
async def test_an_index_gives_the_order_of_every_list(package, database):
    indexes = await _fetch(await database(package), INDEXES)
    for listing in declarations(package, "models", Listing):
        ordered = [row["columns"] for row in indexes if row["table"] == listing.table.name]
        assert any(columns[0] == "tenant_id" and tuple(columns[-2:]) == listing.order for columns in ordered), (
            f"a page of {listing.table.name} would sort all rows: no index ends in {listing.order}, only {ordered}"
        )


@pytest.mark.parametrize("package", PACKAGES)
async def test_every_service_has_the_tables_of_the_engine(package, database):
    assert {row["table_name"] for row in await _fetch(await database(package), COLUMNS)} >= PLUMBING


@pytest.mark.parametrize("package", ["escalation_svc", "feedback_svc", "metrics_svc"])
async def test_an_outbox_is_vacuumed_after_10000_dead_rows_whatever_its_size(package, database):
    [row] = await _fetch(await database(package), "SELECT reloptions FROM pg_class WHERE relname = 'outbox'")
    assert {"autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=10000"} <= set(row["reloptions"])


@pytest.mark.parametrize("package", ["escalation_svc", "feedback_svc", "metrics_svc"])
@pytest.mark.parametrize("change", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_rows_of_the_audit_trail_cannot_be_changed_or_deleted(package, change, database):
    dsn = await database(package)
    await _fetch(dsn, "INSERT INTO audit (who, action, subject) VALUES ('ada', 'replay.run', 'some-svc')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await _fetch(dsn, change)
    assert len(await _fetch(dsn, "SELECT * FROM audit WHERE who = 'ada'")) == 1


@pytest.mark.parametrize("package", ["escalation_svc", "feedback_svc", "metrics_svc"])
async def test_a_consumer_has_at_most_one_unfinished_replay(package, database):
    """A failed rebuild counts, because it can be resumed: until it is aborted, no other replay may apply events."""
    dsn = await database(package)
    start = """
        INSERT INTO replays (id, consumer, kind, state, filter, summary, plan_hash, cluster_id, planned_by)
        VALUES (gen_random_uuid(), $1, $2, $3, '{}', '{}', '', '', 'ada')
    """
    await _fetch(dsn, start, "some-svc", "repair", "running")
    await _fetch(dsn, start, "other-svc", "repair", "running")
    for ended in ("planned", "done", "failed", "aborted"):
        await _fetch(dsn, start, "some-svc", "repair", ended)
    for under_way in (("repair", "running"), ("repair", "paused"), ("rebuild", "built"), ("rebuild", "failed")):
        with pytest.raises(asyncpg.UniqueViolationError):
            await _fetch(dsn, start, "some-svc", *under_way)


def _models(package: str) -> set[tuple[str, str, str, bool]]:
    """The columns that a package's modules `models` declare: table, name, PostgreSQL's type, nullable."""
    of_rows = {
        (table.name, column.name, TYPES[column.type.upper()], column.nullable)
        for table in declarations(package, "models", Table)
        for column in table.columns
    }
    bases = {getattr(module, "Base", None) for module in modules(package, "models")} - {None}
    of_sqlalchemy = {
        (table.name, column.name, TYPES[column.type.compile(postgresql.dialect())], bool(column.nullable))
        for base in bases
        for table in base.metadata.tables.values()
        for column in table.columns
    }
    return of_rows | of_sqlalchemy


async def _fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()
