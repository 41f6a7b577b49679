#!/bin/sh
# Random passwords for docker-compose.yml, into ./secrets; those that are there stay.
# The folder is closed; the files in it are open, because the containers' own users have to read them.
set -eu
cd "${1:-$(dirname "$0")/../..}"
mkdir -p -m 700 secrets
for name in kafka-admin kafka-agent kafka-detect kafka-store kafka-apply kafka-alerts postgres database grafana grafana_postgres_password; do
    [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name"
    chmod 444 "secrets/$name"
done
# The console's certificate, for this machine alone: put one of your own authority in its place.
if [ ! -s secrets/console-key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 730 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout secrets/console-key -out secrets/console-certificate 2>/dev/null
    chmod 444 secrets/console-key secrets/console-certificate
fi
