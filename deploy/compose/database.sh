#!/bin/sh
# The accounts of the database, once, when it is made: hopwatch owns its tables, hopwatch_grafana may read what it is granted.
# PostgreSQL's image runs this (or reads it in: no `set -e` outside of the parentheses).
(
    set -eu
    # Passwords are no arguments: psql reads them by itself.
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set owner `cat /run/secrets/database`
\set grafana `cat /run/secrets/grafana_postgres_password`
CREATE ROLE hopwatch LOGIN PASSWORD :'owner';
CREATE ROLE hopwatch_grafana LOGIN NOINHERIT PASSWORD :'grafana' CONNECTION LIMIT 20;
REVOKE ALL ON DATABASE hopwatch FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE hopwatch TO hopwatch;
GRANT CONNECT ON DATABASE hopwatch TO hopwatch_grafana;
GRANT USAGE, CREATE ON SCHEMA public TO hopwatch;
SQL
)
