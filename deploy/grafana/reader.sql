-- A user for the dashboard Customer experience: reads the tables behind it, and nothing else, of every tenant. Run it as
-- a superuser in the databases metrics and escalation, then ALTER ROLE grafana PASSWORD '…'. Who looks at the dashboard
-- sees what the user sees: give a tenant of its own a Grafana of its own.
DO $$ BEGIN
    CREATE ROLE grafana LOGIN BYPASSRLS;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
DO $$ BEGIN
    IF to_regclass('public.rollups') IS NOT NULL THEN
        GRANT SELECT ON rollups TO grafana;
    END IF;
    IF to_regclass('public.escalations') IS NOT NULL THEN
        GRANT SELECT (tenant_id, clock_id, state, priority, due_at) ON clocks TO grafana;
        GRANT SELECT (tenant_id, escalation_id, reason, policy, priority, state, opened_at, acknowledged_by)
            ON escalations TO grafana;
    END IF;
END $$;
