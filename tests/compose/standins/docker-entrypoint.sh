#!/bin/bash
# What docker-compose.yml uses of the entry point of the image `postgres`, and no more.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # The image asks initdb with what POSTGRES_INITDB_ARGS says.
    # shellcheck disable=SC2086
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
    printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
    pg_ctl -o "-c listen_addresses='' -c unix_socket_directories=/run/postgresql" -w start
    PGHOST=/run/postgresql createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do
        PGHOST=/run/postgresql bash "$script"
    done
    pg_ctl -m fast -w stop
    unset PGPASSWORD
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
