#!/usr/bin/env bash
# Runs with every `docker compose up`; idempotent. Creates Grafana's database login and grants it read access.
set -euo pipefail

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"
}

for database in metrics escalation; do
    run --dbname "$database" --file /reader.sql
done
run --dbname postgres --set password="$GRAFANA_DATABASE_PASSWORD" <<'SQL'
ALTER ROLE grafana PASSWORD :'password';
GRANT CONNECT ON DATABASE metrics, escalation TO grafana;
SQL
