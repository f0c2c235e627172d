"""Shadow tables: copies of a service's tables in a schema of their own, filled by a rebuild, then swapped in.

Each copy has the current definition of its live table: indexes with their names, constraints, defaults, storage
settings, row-level security, comments and privileges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from touchpoint.db import dead_letters, outbox

SWAPPED = ("inbox",)
"""Tables of the engine that describe the projections' content, and so are swapped with them."""
THROWN_AWAY = ("outbox", "dead_letters")
"""Tables of the engine that handlers write to, so that a rebuild sends no events and adds no live dead letters; what
has to survive is copied at the swap."""

# The statements that create the copies. The grantee 0 means PUBLIC, which `regrole` would print as "-".
_COPY = """
WITH live AS (
    SELECT $1::text AS schema, c.oid, c.relname, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity,
           c.reloptions || (SELECT array_agg('toast.' || option) FROM unnest(t.reloptions) AS option) AS options
      FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($2)
), steps (step, statement) AS (
    SELECT 1, format('CREATE TABLE %I.%I (LIKE public.%2$I INCLUDING ALL EXCLUDING INDEXES)', schema, relname)
              || coalesce(' WITH (' || array_to_string(options, ', ') || ')', '')
      FROM live
     UNION ALL
    SELECT 2, format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', schema, relname, conname, pg_get_constraintdef(k.oid))
      FROM live JOIN pg_constraint k ON conrelid = live.oid AND contype IN ('p', 'u', 'x')
     UNION ALL
    SELECT 2, replace(pg_get_indexdef(indexrelid),
                      format(' ON public.%I USING ', relname), format(' ON %I.%I USING ', schema, relname))
      FROM live JOIN pg_index ON indrelid = live.oid
     WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = live.oid)
     UNION ALL
    SELECT 3, format('ALTER TABLE %I.%I %s ROW LEVEL SECURITY', schema, relname, guard)
      FROM live, LATERAL (VALUES ('ENABLE', relrowsecurity), ('FORCE', relforcerowsecurity)) AS guards (guard, wanted)
     WHERE wanted
     UNION ALL
    SELECT 3, format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s', policyname, schema, tablename, permissive, cmd,
                     (SELECT string_agg(quote_ident(role), ', ') FROM unnest(roles) AS role))
              || coalesce(' USING (' || qual || ')', '') || coalesce(' WITH CHECK (' || with_check || ')', '')
      FROM pg_policies JOIN live ON schemaname = 'public' AND tablename = relname
     UNION ALL
    SELECT 3, format('COMMENT ON TABLE %I.%I IS %L', schema, relname, told)
      FROM live, LATERAL obj_description(live.oid, 'pg_class') AS told WHERE told IS NOT NULL
     UNION ALL
    SELECT 4, format('GRANT %s ON %I.%I TO %s%s', privilege_type, schema, relname,
                     CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                     CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
      FROM live, LATERAL aclexplode(relacl) WHERE grantee <> relowner
     UNION ALL
    SELECT 4, format('GRANT %s (%I) ON %I.%I TO %s%s', privilege_type, attname, schema, relname,
                     CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                     CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
      FROM live JOIN pg_attribute ON attrelid = live.oid, LATERAL aclexplode(attacl) WHERE grantee <> relowner
)
SELECT statement FROM steps ORDER BY step, statement
"""

_LOST = """
SELECT format('%s %s of %s', kind, name, relname)
  FROM (
    SELECT 'trigger', tgname, tgrelid FROM pg_trigger WHERE NOT tgisinternal
     UNION ALL
    SELECT 'foreign key', conname, side FROM pg_constraint, LATERAL (VALUES (conrelid), (confrelid)) AS sides (side)
     WHERE contype = 'f'
     UNION ALL
    SELECT 'publication', pubname, prrelid FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid
     UNION ALL
    SELECT 'view', v.relname, d.refobjid
      FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
  ) AS things (kind, name, target)
  JOIN pg_class ON pg_class.oid = target
 WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
 ORDER BY 1 LIMIT 1
"""

_HELD_BY = """
SELECT format('%s (process %s)', application_name, pid)
  FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE locktype = 'relation' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND relation::regclass::text = ANY ($1)
   AND xact_start < clock_timestamp() - interval '1 s' AND pid <> pg_backend_pid()
 LIMIT 1
"""

# A rebuild's schema is named after its id, so that it cannot be mistaken for another rebuild's.
_ABANDONED = """
SELECT nspname FROM pg_namespace
 WHERE EXISTS (SELECT FROM replays WHERE consumer = $1 AND kind = 'rebuild' AND state = 'aborted'
                AND nspname = 'rebuild_' || left(id::text, 8))
"""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Copies of the tables `projections`, and of the tables that are written along with them.

    The copies of `decisions` take what handlers write while a rebuild runs, and are dropped: the live ones stay.
    """

    schema: str
    """`rebuild_` and the first characters of the rebuild's id: a name that needs no quotes."""
    projections: Sequence[str]
    decisions: Sequence[str] = ()

    @property
    def tables(self) -> list[str]:
        """The tables that replace the live ones."""
        return sorted({*self.projections, *SWAPPED})

    async def exists(self, raw: asyncpg.Connection) -> bool:
        """Whether the schema exists; it is created with all tables in one transaction."""
        return await raw.fetchval("SELECT to_regnamespace($1) IS NOT NULL", self.schema) is True

    async def create(self, raw: asyncpg.Connection) -> None:
        """Create the schema with empty copies of all tables."""
        await raw.execute(f"CREATE SCHEMA {self.schema}")
        for row in await raw.fetch(_COPY, self.schema, [*self.tables, *self.decisions, *THROWN_AWAY]):
            await raw.execute(row["statement"])
        await raw.execute(f"""
            CREATE FUNCTION {self.schema}.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER suppress BEFORE INSERT ON {self.schema}.outbox FOR EACH ROW
              WHEN (NEW.topic NOT LIKE '%.dlq') EXECUTE FUNCTION {self.schema}.suppress()
        """)

    async def would_lose(self, raw: asyncpg.Connection) -> str | None:
        """A trigger, foreign key, publication or view of a live table that a swap would drop; None if there is none."""
        dependent: str | None = await raw.fetchval(_LOST, self.tables)
        return dependent

    async def held_by(self, raw: asyncpg.Connection) -> str | None:
        """The application whose transaction has locked a live table for more than a second; None if there is none.

        A swap would wait for this transaction, and all other queries would queue behind the swap.
        """
        holder: str | None = await raw.fetchval(_HELD_BY, self.tables)
        return holder

    async def enter(self, raw: asyncpg.Connection) -> None:
        """Make unqualified names resolve to the copies in this transaction; tables without a copy stay live ones."""
        await raw.execute(f"SET LOCAL search_path = {self.schema}, public")

    async def leave(self, raw: asyncpg.Connection) -> None:
        """Make unqualified names resolve to the live tables again."""
        await raw.execute("SET LOCAL search_path TO DEFAULT")

    async def analyze(self, raw: asyncpg.Connection) -> None:
        """Collect statistics of the copies, so that their first queries are planned well."""
        await raw.execute(f"ANALYZE {', '.join(f'{self.schema}.{table}' for table in self.tables)}")

    async def replace_live(self, raw: asyncpg.Connection) -> None:
        """Replace the live tables by the copies, and take over the rebuild's dead letters and their outbox rows.

        Readers wait from the lock until this transaction ends; then PostgreSQL resolves the names again, to the new
        tables.
        """
        await dead_letters.take_over(raw, self.schema)
        await outbox.take_over(raw, self.schema)
        live = ", ".join(f"public.{table}" for table in self.tables)
        await raw.execute(f"LOCK TABLE {live} IN ACCESS EXCLUSIVE MODE")
        await raw.execute(f"DROP TABLE {live}")
        for table in self.tables:
            await raw.execute(f"ALTER TABLE {self.schema}.{table} SET SCHEMA public")
        await raw.execute(f"DROP SCHEMA {self.schema} CASCADE")


async def abandoned(raw: asyncpg.Connection, consumer: str) -> list[str]:
    """The schemas that aborted rebuilds have left behind."""
    return [row["nspname"] for row in await raw.fetch(_ABANDONED, consumer)]


async def drop(raw: asyncpg.Connection, schema: str) -> None:
    """Drop a schema with everything in it."""
    await raw.execute(f"DROP SCHEMA {schema} CASCADE")
