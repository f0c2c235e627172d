"""A rebuild's new tables equal the live tables in every respect, also after manual changes to the live ones."""

import uuid

import asyncpg
import pytest

from touchpoint.db.shadow import Shadow

PROJECTIONS = {"feedback_svc": ["feedback", "timeline"], "metrics_svc": ["rollups", "changes", "answers", "tickets"]}

BY_HAND = """
CREATE INDEX by_hand ON {table} USING hash (tenant_id) WHERE tenant_id <> 'nobody';
ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = false);
ALTER TABLE {table} ADD CONSTRAINT some_tenant CHECK (tenant_id <> ''), ALTER COLUMN tenant_id SET DEFAULT 'acme';
CREATE POLICY readers ON {table} AS RESTRICTIVE FOR UPDATE TO {role} USING (true) WITH CHECK (tenant_id <> '');
GRANT SELECT, INSERT ON {table} TO {role} WITH GRANT OPTION;
GRANT UPDATE (tenant_id) ON {table} TO PUBLIC;
COMMENT ON TABLE {table} IS 'ours'
"""

EVERYTHING = """
SELECT relname AS of, kind, what
  FROM pg_class c, LATERAL (
    SELECT 'column', concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                               attstorage, pg_get_expr(adbin, adrelid), ARRAY(SELECT unnest(attacl)::text ORDER BY 1))
      FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
     WHERE attrelid = c.oid AND attnum > 0
     UNION ALL
    SELECT 'index', indexdef FROM pg_indexes WHERE (schemaname, tablename) = ('public', relname)
     UNION ALL
    SELECT 'constraint', concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = c.oid
     UNION ALL
    SELECT 'policy', p::text FROM pg_policies p WHERE (schemaname, tablename) = ('public', relname)
     UNION ALL
    SELECT 'table', concat_ws(' ', relpersistence, relowner, relrowsecurity, relforcerowsecurity, relreplident,
                              obj_description(c.oid, 'pg_class'), ARRAY(SELECT unnest(relacl)::text ORDER BY 1),
                              ARRAY(SELECT unnest(reloptions) ORDER BY 1),
                              ARRAY(SELECT unnest(t.reloptions) FROM pg_class t WHERE t.oid = c.reltoastrelid))
  ) AS found (kind, what)
 WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
 ORDER BY 1, 2, 3
"""


@pytest.fixture
async def connection(database, package):
    made = await asyncpg.connect(await database(package))
    yield made
    await made.close()


@pytest.fixture
async def role(connection):
    """A role that an administrator created: no migration grants it anything."""
    name = f"readers_{uuid.uuid4().hex[:8]}"
    await connection.execute(f"CREATE ROLE {name}")
    yield name
    await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize("package", PROJECTIONS)
async def test_the_new_tables_equal_the_live_ones_in_every_respect(package, connection, role):
    shadow = Shadow("rebuild_12345678", PROJECTIONS[package])
    await connection.execute(BY_HAND.format(table=PROJECTIONS[package][0], role=role))
    before = [tuple(row) for row in await connection.fetch(EVERYTHING, shadow.tables)]
    assert {of for of, *_ in before} == set(shadow.tables)
    assert sum(role in what for _, _, what in before) == 2
    oids = "SELECT oid FROM pg_class WHERE relname = ANY ($1) AND relnamespace = 'public'::regnamespace"
    old = {row["oid"] for row in await connection.fetch(oids, shadow.tables)}
    async with connection.transaction():
        await shadow.create(connection)
        await shadow.replace_live(connection)
    assert not old & {row["oid"] for row in await connection.fetch(oids, shadow.tables)}
    assert [tuple(row) for row in await connection.fetch(EVERYTHING, shadow.tables)] == before


@pytest.mark.parametrize("package", PROJECTIONS)
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW report AS SELECT count(*) FROM {table}", "view report of {table}"),
        ("CREATE PUBLICATION copied FOR TABLE {table}", "publication copied of {table}"),
        ("CREATE TABLE more (t text, i uuid, FOREIGN KEY (t, i) REFERENCES {table})", "foreign key more_t_i_fkey of"),
        ("CREATE TRIGGER mine BEFORE DELETE ON {table} EXECUTE FUNCTION refuse_change()", "trigger mine of {table}"),
    ],
)
async def test_objects_that_depend_on_a_live_table_are_named(package, connection, statement, message):
    table = {"feedback_svc": "feedback", "metrics_svc": "tickets"}[package]
    if package == "metrics_svc":
        statement = statement.replace("uuid", "text")
    await connection.execute(statement.format(table=table))
    lost = await Shadow("rebuild_12345678", PROJECTIONS[package]).would_lose(connection)
    assert lost is not None
    assert lost.startswith(message.format(table=table))


@pytest.mark.parametrize("package", PROJECTIONS)
async def test_events_that_handlers_publish_in_a_rebuild_are_dropped_and_dead_letters_kept(package, connection):
    shadow = Shadow("rebuild_12345678", PROJECTIONS[package])
    await shadow.create(connection)
    rows = [(topic, b"") for topic in ("feedback.v1", "touchpoints.v1.some-svc.dlq")]
    async with connection.transaction():
        await shadow.enter(connection)
        await connection.copy_records_to_table("outbox", records=rows, columns=["topic", "headers"])
        await shadow.leave(connection)
        assert await connection.fetch("SELECT * FROM outbox") == []
    rows = await connection.fetch("SELECT topic FROM rebuild_12345678.outbox")
    assert [row["topic"] for row in rows] == ["touchpoints.v1.some-svc.dlq"]
