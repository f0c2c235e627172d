#!/usr/bin/env bash
# Run once by PostgreSQL's image, while its volume is empty. Creates for each service a login, the role of its API, and a
# database that the login owns and that no other service can connect to.
set -euo pipefail

database() { # name, package, password
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$1" --set api="$2_api" --set password="$3" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE ROLE :"api" NOLOGIN;
GRANT :"api" TO :"name";
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

database gateway gateway "$GATEWAY_PASSWORD"
database feedback feedback_svc "$FEEDBACK_PASSWORD"
database escalation escalation_svc "$ESCALATION_PASSWORD"
database metrics metrics_svc "$METRICS_PASSWORD"
