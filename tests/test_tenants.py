"""The second line of defence: row-level security and privileges limit an API, whatever its queries ask for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from touchpoint.db.engine import create_engine, sqlstate
from touchpoint.db.roles import api_role
from touchpoint.db.tenants import Tenants

SERVICES = ["escalation_svc", "feedback_svc", "metrics_svc"]
TENANTS = ("acme", "globex")

STATUS = {
    "offsets": {"SELECT": {"consumer", "topic", "partition", "next", "inbox_from"}},
    "inbox": {"SELECT": {"consumer", "event_id", "type", "topic", "partition", "offset"}},
    "dead_letters": {"SELECT": {"consumer", "event_id", "type", "state", "topic", "partition", "offset"}},
    "conflicts": {"SELECT": {"consumer", "event_id"}},
    "log_losses": {"SELECT": {"consumer", "topic", "partition", "first", "accepted_at"}},
}
"""The tables an API reads to return an event's status."""

ALL = "every column"
COMMANDS = {
    "case_version", "state", "acknowledged_at", "acknowledged_by", "resolved_at", "resolved_by", "resolution",
}  # fmt: skip
PRIVILEGES: dict[str, Any] = {
    "feedback_svc": {"feedback": {"SELECT": ALL}, "timeline": {"SELECT": ALL}, **STATUS},
    "metrics_svc": {"rollups": {"SELECT": ALL}, **STATUS},
    "escalation_svc": {
        "escalations": {"SELECT": ALL, "UPDATE": COMMANDS},
        "clocks": {"SELECT": ALL},
        "outbox": {"INSERT": ALL},
        **STATUS,
    },
    "gateway": {
        "api_keys": {"SELECT": ALL, "UPDATE": {"last_used_at"}},
        "idempotency_keys": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL, "DELETE": ALL},
        "quotas": {"SELECT": ALL, "INSERT": {"tenant_id", "day", "events"}, "UPDATE": {"day", "events"}},
        "rates": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL},
        **STATUS,
    },
}

COLUMNS = """
SELECT table_name, column_name, udt_name FROM information_schema.columns
 WHERE table_schema = 'public' AND table_name IN (
    SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant_id' AND table_name <> 'dead_letters')
 ORDER BY table_name, ordinal_position
"""
GRANTED = """
SELECT table_name, privilege_type, column_name FROM information_schema.column_privileges WHERE grantee = $1
"""
WHOLE = "SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE grantee = $1"
UNGUARDED = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT c.relrowsecurity
   AND c.relname NOT IN ('api_keys', 'dead_letters')
"""

SAMPLES = {"text": "'x'", "uuid": "gen_random_uuid()", "bool": "false", "jsonb": "'{}'", "timestamptz": "now()"}
"""A value for each type of column; numbers are 1, arrays (whose type begins with _) empty."""

Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


@pytest.fixture
async def owner(dsn) -> AsyncIterator[Fetch]:
    """Runs queries as the tables' owner, as do consumers, workers and operators' commands."""
    connection = await asyncpg.connect(dsn)
    yield connection.fetch
    await connection.close()


@pytest.fixture
async def tables(owner) -> dict[str, list[str]]:
    """The domain tables and their columns; each table has a row of each tenant."""
    columns_of: dict[str, list[str]] = {}
    for table, column, kind in await owner(COLUMNS):
        columns_of.setdefault(table, []).append(f"'{{tenant}}' AS {column}" if column == "tenant_id" else _sample(kind))
    for table, values in columns_of.items():
        for tenant in TENANTS:
            await owner(f"INSERT INTO {table} SELECT {', '.join(values).format(tenant=tenant)}")
    return columns_of


def _sample(kind: str) -> str:
    return "'{{}}'" if kind == "jsonb" or kind.startswith("_") else SAMPLES.get(kind, "1")


@pytest.fixture
def as_api(dsn, package):
    """A context manager: an engine whose connections have the API's role."""

    @asynccontextmanager
    async def connected():
        engine = create_engine(dsn, "tests", role=api_role(package))
        yield engine
        await engine.dispose()

    return connected


def _readable(package: str) -> list[str]:
    return [table for table in PRIVILEGES[package] if table not in STATUS and table != "outbox"]


@pytest.mark.parametrize("package", PRIVILEGES)
async def test_an_api_has_exactly_the_privileges_that_its_routes_need(package, owner):
    granted: dict[str, Any] = {}
    for table, privilege in await owner(WHOLE, api_role(package)):
        granted.setdefault(table, {})[privilege] = ALL
    for table, privilege, column in await owner(GRANTED, api_role(package)):
        if (columns := granted.setdefault(table, {}).setdefault(privilege, set())) != ALL:
            columns.add(column)
    assert granted == PRIVILEGES[package]


@pytest.mark.parametrize("package", SERVICES)
async def test_every_domain_table_has_row_level_security(package, owner):
    assert [row["relname"] for row in await owner(UNGUARDED)] == []


@pytest.mark.parametrize("package", SERVICES)
async def test_a_query_without_a_tenant_returns_nothing(package, tables, as_api):
    async with as_api() as engine, engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_user"))).scalar() == api_role(package)
        for table in _readable(package):
            assert (await connection.execute(text(f"SELECT * FROM {table}"))).all() == [], table


@pytest.mark.parametrize("package", SERVICES)
async def test_a_query_without_a_tenant_filter_returns_only_rows_of_the_transactions_tenant(package, tables, as_api):
    async with as_api() as engine:
        for tenant in (*TENANTS, "nobody"):
            async with Tenants(engine).transaction(tenant, read_only=True) as session:
                for table in _readable(package):
                    rows = await session.execute(text(f"SELECT tenant_id FROM {table}"))
                    assert rows.scalars().all() == [tenant] * (tenant in TENANTS), table


@pytest.mark.parametrize("package", SERVICES)
async def test_a_single_statement_returns_only_rows_of_its_tenant(package, tables, as_api):
    async with as_api() as engine:
        for tenant in (*TENANTS, "nobody"):
            for table in _readable(package):
                query = f"SELECT tenant_id FROM {table} WHERE caller.tenant <> '' ORDER BY tenant_id LIMIT 10"
                rows = await Tenants(engine).fetch(tenant, query)
                assert [row["tenant_id"] for row in rows] == [tenant] * (tenant in TENANTS), table


@pytest.mark.parametrize("package", SERVICES)
async def test_a_query_for_another_tenant_returns_nothing(package, tables, as_api):
    async with as_api() as engine, Tenants(engine).transaction("acme", read_only=True) as session:
        for table in _readable(package):
            rows = await session.execute(text(f"SELECT * FROM {table} WHERE tenant_id = 'globex'"))
            assert rows.all() == [], table


@pytest.mark.parametrize("package", SERVICES)
async def test_the_owner_reads_the_rows_of_all_tenants(package, tables, owner):
    for table in tables:
        assert {row["tenant_id"] for row in await owner(f"SELECT tenant_id FROM {table}")} == set(TENANTS)


@pytest.mark.parametrize("package", ["escalation_svc"])
async def test_a_command_changes_no_row_of_another_tenant(package, tables, as_api, owner):
    async with as_api() as engine, Tenants(engine).transaction("acme") as session:
        changed = await session.execute(text("UPDATE escalations SET state = 'resolved' RETURNING tenant_id"))
        assert changed.scalars().all() == ["acme"]
    assert [r["tenant_id"] for r in await owner("SELECT * FROM escalations WHERE state = 'resolved'")] == ["acme"]


@pytest.mark.parametrize("package", ["escalation_svc"])
@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE escalations SET tenant_id = 'globex'", "permission denied"),
        ("DELETE FROM escalations", "permission denied"),
        ("INSERT INTO escalations SELECT * FROM escalations", "permission denied"),
        ("SELECT reason FROM dead_letters", "permission denied"),
        ("SELECT * FROM outbox", "permission denied"),
        ("INSERT INTO outbox (topic, key, headers) VALUES ('t', 'globex:c-1', '')", "row-level security"),
        ("INSERT INTO outbox (topic, key, headers) VALUES ('t', NULL, '')", "row-level security"),
    ],
)
async def test_statements_beyond_the_apis_privileges_are_refused(package, as_api, statement, why):
    async with as_api() as engine:
        with pytest.raises(Exception, match=why) as raised:
            async with Tenants(engine).transaction("acme") as session:
                await session.execute(text(statement))
        assert sqlstate(raised.value) == "42501"


@pytest.mark.parametrize("package", ["escalation_svc"])
async def test_an_api_may_publish_an_event_of_its_own_tenant(package, as_api, owner):
    async with as_api() as engine, Tenants(engine).transaction("acme") as session:
        await session.execute(text("INSERT INTO outbox (topic, key, headers) VALUES ('t', 'acme:c-1', '')"))
    assert len(await owner("SELECT * FROM outbox")) == 1


@pytest.mark.parametrize("package", ["feedback_svc"])
async def test_row_level_security_does_not_change_a_querys_plan(package, as_api, owner):
    """The policy compares the tenant once per query, not once per row: the operators are leakproof."""
    await owner("""
        INSERT INTO feedback (tenant_id, id, source, event_id, occurred_at, recorded_at, backfill, kind, channel)
        SELECT 'tenant-' || n % 10, gen_random_uuid(), '/s', n::text, now() - n * interval '1 min', now(), false,
               'nps', 'email' FROM generate_series(1, 20000) AS n
    """)
    await owner("ANALYZE feedback")
    query = """
        EXPLAIN (COSTS OFF) SELECT * FROM feedback
         WHERE tenant_id = 'tenant-1' AND (occurred_at, id) < (now(), '00000000-0000-0000-0000-000000000000')
         ORDER BY occurred_at DESC, id DESC LIMIT 51
    """
    async with as_api() as engine, Tenants(engine).transaction("tenant-1", read_only=True) as session:
        plan = "\n".join((await session.execute(text(query))).scalars())
    assert "Index Scan Backward using feedback_order" in plan
    assert "Filter: (tenant_id" not in plan
    assert "One-Time Filter: (current_setting('touchpoint.tenant'" in plan
