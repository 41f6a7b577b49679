"""The servers of the table, each a real one on the network's server host, ended with the context."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from examples.plant import servers as plant
from examples.plant.network import Host, Network, network
from examples.plant.servers import Processes

# The one word that stands for every password here.
PLACEHOLDER = "placeholder"
ACCOUNT = "svc_report"
ADDRESSES = {"client": "10.99.0.1", "server": "10.99.0.2"}
BUILD = Path(__file__).resolve().parent / "build"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and what it is."""

    name: str
    protocol: str
    version: str
    host: Host
    port: int
    facts: dict[str, Any] = field(default_factory=dict)
    """What its clients need to know beside: ports of other listeners, files, SQL that it says otherwise."""

    @property
    def address(self) -> str:
        return self.host.address


@dataclass(slots=True)
class House:
    """The network, what runs on it, and a folder for it all."""

    network: Network
    held: Processes
    folder: Path
    ports: Iterator[int]

    @property
    def server_host(self) -> Host:
        return self.network.hosts["server"]

    @property
    def client_host(self) -> Host:
        return self.network.hosts["client"]

    def port(self) -> int:
        return self.network.port(next(self.ports))


@contextlib.contextmanager
def house(folder: Path, *, namespaces: bool) -> Iterator[House]:
    """An empty house; servers are started in it when they are first asked for."""
    # Servers that give up root must reach their files.
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/") and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="client") as made, plant.processes(folder) as held:
        yield House(made, held, folder, iter(range(15_000, 15_900)))


def first_line(*argv: object) -> str:
    """The version a program tells."""
    said = subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def _numbers(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


# -- PostgreSQL -------------------------------------------------------------------------------------------------------

SCHEMA = f"""
CREATE ROLE {ACCOUNT} LOGIN REPLICATION CREATEROLE PASSWORD '{PLACEHOLDER}';
GRANT pg_read_all_data TO {ACCOUNT};
CREATE DATABASE plant OWNER {ACCOUNT};
"""
TABLES = """
CREATE SCHEMA mes;
CREATE TABLE mes.genealogy (id int, part text, station text);
INSERT INTO mes.genealogy SELECT n, 'part ' || n, 'station ' || n % 7 FROM generate_series(1, 1000) n;
CREATE TABLE mes.orders (id int, quantity int);
CREATE TABLE mes.work (id int PRIMARY KEY, line text);
CREATE FUNCTION mes.stations(first int, last int) RETURNS SETOF text LANGUAGE sql
  AS 'SELECT station FROM mes.genealogy WHERE id BETWEEN first AND last';
CREATE PROCEDURE mes.recount(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
CREATE PUBLICATION changes FOR TABLE mes.work;
"""
LARGE_ROWS = 100_000
LARGE = f"select n, repeat('x', 100) from generate_series(1, {LARGE_ROWS}) n"


def postgresql(here: House) -> Server:
    """PostgreSQL's own server, as the distribution has it."""
    initdb, postgres = plant.postgresql_program("initdb"), plant.postgresql_program("postgres")
    if initdb is None or postgres is None:
        raise plant.PlantError("postgresql is not installed")
    return _postgresql(here, "PostgreSQL", initdb, postgres)


def postgresql_14(here: House) -> Server:
    """The same of an older major version, whose programs come in a jar from Maven Central."""
    jars = sorted((BUILD / "jars").glob("embedded-postgres-binaries-*.jar"))
    if not jars:
        raise plant.PlantError("the jar with PostgreSQL 14 is not there")
    folder = here.folder / "postgresql-14-programs"
    folder.mkdir()
    with zipfile.ZipFile(jars[0]) as jar:
        packed = next(name for name in jar.namelist() if name.endswith(".txz"))
        with jar.open(packed) as archive, tarfile.open(fileobj=archive, mode="r:xz") as tree:
            tree.extractall(folder, filter="tar")
    return _postgresql(here, "PostgreSQL 14", str(folder / "bin" / "initdb"), str(folder / "bin" / "postgres"))


def _postgresql(here: House, name: str, initdb: str, postgres: str) -> Server:
    """A server with logical replication and one account for every verb."""
    host, port = here.server_host, here.port()
    label = name.lower().replace(" ", "-")
    folder = plant.private_folder(here.folder / label)
    data = folder / "data"
    plant.run([initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
    with (data / "pg_hba.conf").open("a", encoding="ascii") as rules:
        rules.write("host all all 0.0.0.0/0 scram-sha-256\nhost replication all 0.0.0.0/0 scram-sha-256\n")
    options = {
        "listen_addresses": host.address,
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "shared_buffers": "16MB",
        "wal_level": "logical",
        "max_wal_senders": 4,
        "max_replication_slots": 8,
        "autovacuum": "off",
        "jit": "off",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    process = here.held.start(label, host, [postgres, "-D", str(data), *map(str, settings)], stop=plant.signal.SIGINT)
    here.held.wait_for(label, process, host, (host.address, port))

    def administrator(database: str) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(host=str(folder), port=port, dbname=database, user="postgres", autocommit=True)

    deadline = time.monotonic() + plant.START_TIMEOUT_S
    while True:
        try:
            administrator("postgres").close()
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    with administrator("postgres") as connection:
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
    with administrator("plant") as connection:
        connection.execute(TABLES)
        connection.execute(f"GRANT ALL ON SCHEMA mes TO {ACCOUNT}; GRANT ALL ON ALL TABLES IN SCHEMA mes TO {ACCOUNT}")
        connection.execute("SELECT pg_create_logical_replication_slot('pgoutput_' || n, 'pgoutput') FROM generate_series(1, 3) n")
        version = connection.execute("SHOW server_version").fetchone()
    assert version is not None
    return Server(name, "postgresql", _numbers(str(version[0])), host, port, {"administrator": administrator, "large": LARGE})


def pgbouncer(here: House, behind: Server) -> Server:
    """PgBouncer in session mode before the PostgreSQL server: it speaks the protocol itself and passes statements on."""
    program = plant.program("pgbouncer")
    if program is None:
        raise plant.PlantError("pgbouncer is not installed")
    host, port = here.server_host, here.port()
    folder = plant.private_folder(here.folder / "pgbouncer")
    users = plant.private_file(folder / "users.txt", f'"{ACCOUNT}" "{PLACEHOLDER}"\n')
    settings = plant.private_file(
        folder / "pgbouncer.ini",
        f"[databases]\nplant = host={behind.address} port={behind.port}\n[pgbouncer]\nlisten_addr = {host.address}\nlisten_port = {port}\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\nunix_socket_dir =\n"
        "ignore_startup_parameters = extra_float_digits,options\nserver_tls_sslmode = disable\n",
    )
    process = here.held.start("pgbouncer", host, [program, str(settings)], stop=plant.signal.SIGINT)
    here.held.wait_for("pgbouncer", process, host, (host.address, port))
    return Server("PgBouncer", "postgresql", _numbers(first_line(program, "--version")), host, port, behind.facts)


# -- MariaDB ----------------------------------------------------------------------------------------------------------

MARIADB_TABLES = f"""
create database mes;
use mes;
create table genealogy (id int, part varchar(40), station varchar(40));
insert into genealogy select seq, concat('part ', seq), concat('station ', seq % 7) from seq_1_to_1000;
create table orders (id int primary key, quantity int);
create definer=root@localhost procedure report(n int) select id from genealogy where id <= n;
create user {ACCOUNT} identified by '{PLACEHOLDER}';
grant all on *.* to {ACCOUNT} with grant option;
create user svc_second identified by '{PLACEHOLDER}';
grant select on mes.* to svc_second;
"""


def mariadb(here: House) -> Server:
    """MariaDB's own server, as the distribution has it, with a log for replicas."""
    install, daemon = plant.program("mariadb-install-db"), plant.program("mariadbd")
    if install is None or daemon is None:
        raise plant.PlantError("mariadb-server is not installed")
    host, port = here.server_host, here.port()
    folder = plant.private_folder(here.folder / "mariadb")
    data = folder / "data"
    files = plant.private_folder(folder / "files")
    plant.run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"])
    begin = plant.private_file(folder / "begin.sql", MARIADB_TABLES.lstrip())
    options = [
        "--no-defaults", f"--datadir={data}", f"--socket={folder / 'socket'}", f"--bind-address={host.address}", f"--port={port}",
        f"--init-file={begin}", "--skip-name-resolve", "--local-infile=1", f"--secure-file-priv={files}", "--log-bin=bin", "--server-id=1",
        "--binlog-format=row", "--max-allowed-packet=64M", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M",
    ]  # fmt: skip
    process = here.held.start("mariadb", host, [daemon, *options])
    here.held.wait_for("mariadb", process, host, (host.address, port))
    _mariadb_ready(here, host, port)
    large = f"select seq, repeat('x', 100) from seq_1_to_{LARGE_ROWS}"
    return Server("MariaDB", "mysql", _numbers(first_line(daemon, "--version")), host, port, {"large": large, "files": files})


def _mariadb_ready(here: House, host: Host, port: int) -> None:
    """It listens before it has read its first file."""
    import pymysql

    deadline = time.monotonic() + plant.START_TIMEOUT_S

    def login() -> bool:
        try:
            pymysql.connect(
                host=host.address, port=port, user="svc_second", password=PLACEHOLDER, database="mes", ssl_disabled=True
            ).close()
        except pymysql.Error:
            return False
        return True

    while not here.client_host.call(login):
        if time.monotonic() > deadline:
            raise plant.PlantError(f"mariadb takes no login: {here.held.last_line('mariadb')}")
        time.sleep(0.1)


# -- MQTT -------------------------------------------------------------------------------------------------------------


def mosquitto(here: House) -> Server:
    """Mosquitto with a listener for TCP, one for WebSocket, and its dynamic-security plugin for accounts."""
    daemon, control = plant.program("mosquitto"), plant.program("mosquitto_ctrl")
    if daemon is None or control is None:
        raise plant.PlantError("mosquitto or mosquitto_ctrl is not installed")
    plugins = [*Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), *Path("/usr/local/lib").glob("mosquitto_dynamic_security.so")]
    if not plugins:
        raise plant.PlantError("mosquitto's dynamic-security plugin is not installed")
    host, port, web = here.server_host, here.port(), here.port()
    folder = plant.private_folder(here.folder / "mosquitto")
    accounts = folder / "accounts.json"
    plant.run([control, "dynsec", "init", accounts, ACCOUNT, PLACEHOLDER])
    # Its one role may administer; here it may do all the rest too.
    told = json.loads(accounts.read_text(encoding="ascii"))
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    told["roles"][0]["acls"] += [{"acltype": kind, "topic": "#", "priority": 0, "allow": True} for kind in kinds]
    plant.private_file(accounts, json.dumps(told))
    configuration = plant.private_file(
        folder / "mosquitto.conf",
        f"listener {port} {host.address}\nlistener {web} {host.address}\nprotocol websockets\n"
        f"per_listener_settings false\nallow_anonymous false\nplugin {plugins[0]}\nplugin_opt_config_file {accounts}\n"
        "persistence false\nmax_queued_messages 20000\nmax_inflight_messages 100\nmax_topic_alias 10\nlog_type error\n",
    )
    process = here.held.start("mosquitto", host, [daemon, "-c", str(configuration)])
    here.held.wait_for("mosquitto", process, host, (host.address, port))
    return Server("Mosquitto", "mqtt", _numbers(first_line(daemon, "-h")), host, port, {"websocket": web, "versions": (4, 5)})


# -- OPC UA -----------------------------------------------------------------------------------------------------------


def asyncua(here: House) -> Server:
    """An asyncua server with history, methods and users."""
    from importlib.metadata import version

    host, port = here.server_host, here.port()
    folder = plant.private_folder(here.folder / "asyncua")
    argv = [sys.executable, "-m", "tests.matrix.opcua_server", host.address, str(port), str(folder)]
    process = here.held.start("asyncua", host, argv, unprivileged=plant.nobody_may_run_python())
    here.held.wait_for("asyncua", process, host, (host.address, port))
    return Server("asyncua", "opcua", version("asyncua"), host, port, {"folder": folder})


# -- servers in Java --------------------------------------------------------------------------------------------------

JAVA_START_S = 90.0


def java(here: House, name: str, arguments: Sequence[str], jar: str) -> tuple[Host, int, str]:
    """One of tests/matrix/java's servers, waited for until it says that it is ready; its host, port and version."""
    host, port = here.server_host, here.port()
    folder = plant.private_folder(here.folder / name)
    given = [str(one).format(address=host.address, port=port, folder=folder) for one in arguments]
    # As root where this is root: the compiled classes lie in the checkout, which may be in a closed home.
    command = host.command([*plant.tied(), "java", "-cp", f"{BUILD / 'classes'}:{BUILD / 'jars'}/*", "Servers", name, *given])
    log = here.folder / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, start_new_session=True)
    here.held.running.append((name, process, plant.signal.SIGTERM))
    deadline = time.monotonic() + JAVA_START_S
    while b"ready" not in log.read_bytes().splitlines():
        if process.poll() is not None or time.monotonic() > deadline:
            raise plant.PlantError(f"{name} did not start: {here.held.last_line(name)}")
        time.sleep(0.1)
    version = next((BUILD / "jars").glob(f"{jar}-[0-9]*.jar")).stem.removeprefix(f"{jar}-")
    return host, port, version


def hivemq(here: House) -> Server:
    """HiveMQ's community edition, embedded."""
    web = here.port()
    host, port, version = java(here, "hivemq", ["{address}", "{port}", str(web), "{folder}"], "hivemq-community-edition-embedded")
    return Server("HiveMQ CE", "mqtt", version, host, port, {"websocket": web})


def milo(here: House) -> Server:
    """Eclipse Milo's server SDK."""
    host, port, version = java(here, "milo", ["{address}", "{port}"], "milo-sdk-server")
    return Server("Milo", "opcua", version, host, port, {"page": 110})


def h2(here: House) -> Server:
    """H2's server for PostgreSQL's protocol."""
    host, port, version = java(here, "h2", ["{port}", "{folder}"], "h2")
    large = f"select \"X\", repeat('x', 100) from system_range(1, {LARGE_ROWS})"
    return Server("H2", "postgresql", version, host, port, {"large": large})


Starter = Callable[[House], Server]
