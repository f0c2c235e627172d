#!/usr/bin/env bash
# Run with every `docker compose up`: Grafana's login, and what it may read. A second run changes nothing.
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
