"""The plant of `make nuisance`: real servers and tools, one network namespace per host, one tap that sees them all."""

import contextlib
import ctypes
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from examples.plant import servers
from examples.plant.clients import Login, MqttSession
from examples.plant.ledger import Ledger
from examples.plant.network import Host, Network, namespaces_work, network
from examples.plant.record import recording
from examples.plant.servers import PlantError, Processes, as_nobody, environment, private_file, private_folder, program

ADDRESSES: Final = {
    "edge-l1": "10.10.1.10",
    "dns": "10.20.0.2",
    "time": "10.20.0.3",
    "directory": "10.20.0.5",
    "updates": "10.20.0.6",
    "monitor": "10.20.0.7",
    "scanner": "10.20.0.8",
    "backup": "10.20.0.9",
    "mes-app": "10.20.1.20",
    "mes-db": "10.20.1.21",
    "mes-db-2": "10.20.1.22",
    "balancer": "10.20.1.26",
    "desk": "10.20.1.77",
    "uns": "10.30.0.10",
    "mw": "10.30.0.20",
    "pool": "10.30.0.25",
    "ml": "10.40.8.40",
    "stranger": "10.40.9.99",
}
JDBC: Final = Path("/usr/share/java/postgresql.jar")
PORTS: Final = {"mes-db": 5432, "mes-db-2": 5432, "pool": 6432, "uns": 1883}
TABLES: Final = {
    "mes.work_order": ("id int primary key, line text, product text, quantity int", "i, 'line' || i % 2 + 1, 'P-' || i % 50, i % 400"),
    "mes.genealogy": ("id int primary key, parent int, component text, serial text", "i, i / 7, 'C-' || i % 90, md5(i::text)"),
    "mes.schema_version": ("version int, script text", "i, 'V' || i"),
    "quality.inspection": ("id int primary key, serial text, result text, value float8", "i, md5(i::text), 'ok', i * 0.1"),
}
ROLES: Final = {
    "svc_mes": "grant select, insert, update on all tables in schema mes, quality to svc_mes",
    "svc_mw": "grant select on mes.work_order, quality.inspection to svc_mw",
    # What the exporter's handbook asks for, and a right to read that somebody left there.
    "svc_watch": "grant pg_monitor, pg_read_all_data to svc_watch",
    "svc_backup": "grant pg_read_all_data to svc_backup",
    "svc_migrate": "alter role svc_migrate superuser",
    "svc_report": "grant pg_read_all_data to svc_report",
    "meier": "grant select on all tables in schema mes to meier",
    "replicator": "alter role replicator replication",
}


@dataclass(slots=True)
class Plant:
    """Everything that runs, and the passwords of this run."""

    network: Network
    held: Processes
    folder: Path
    chance: random.Random
    passwords: dict[str, str]
    ledger: Ledger = field(default_factory=Ledger)

    def host(self, name: str) -> Host:
        """A machine of the plant."""
        return self.network.hosts[name]

    def login(self, account: str, server: str = "mes-db", application: str = "") -> Login:
        """How ``account`` logs in to ``server``."""
        return Login(account, self.passwords[account], ADDRESSES[server], PORTS[server], application)

    def connect(
        self, host: str, account: str, server: str = "mes-db", application: str = "", **options: Any
    ) -> "psycopg.Connection[tuple[Any, ...]]":
        """A session from ``host``; its socket stays that host's whoever uses it afterwards."""
        to = self.login(account, server, application)
        given: dict[str, Any] = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 5, "autocommit": True, **options}
        return self.host(host).call(
            lambda: psycopg.connect(
                host=to.address, port=to.port, dbname="mes", user=account, password=to.password, application_name=application, **given
            )
        )

    def ask(self, host: str, account: str, *statements: str, server: str = "mes-db", application: str = "") -> int:
        """Statements in one session; returns the rows that came back."""
        rows = 0
        with self.connect(host, account, server, application) as session:
            for statement in statements:
                cursor = session.execute(statement)
                rows += len(cursor.fetchall()) if cursor.description else 0
        return rows

    def mqtt(self, host: str, account: str, client_id: str, *, clean: bool = True) -> MqttSession:
        """A client of the broker."""
        return self.host(host).call(lambda: MqttSession(self.login(account, "uns"), self.ledger, None, client_id, clean=clean))

    def tool(self, host: str, *argv: str, timeout_s: float = 60.0, may_fail: bool = False, **variables: str) -> str:
        """Run a program on ``host`` to its end; what it printed."""
        done = subprocess.run(
            self.host(host).command([*as_nobody(), *argv]), capture_output=True, text=True, check=False, timeout=timeout_s,
            env=environment() | variables, cwd="/",
        )  # fmt: skip
        if done.returncode and not may_fail:
            raise PlantError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    @contextlib.contextmanager
    def running(self, name: str, host: str, *argv: str, unprivileged: bool = True) -> Iterator["subprocess.Popen[bytes]"]:
        """A daemon on ``host`` while the body runs."""
        process = self.held.start(name, self.host(host), argv, unprivileged=unprivileged)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)

    def recorded(self, name: str) -> "contextlib.AbstractContextManager[None]":
        """A recorder of the tap; the capture is ``capture(name)``."""
        return recording(self.network, self.capture(name), level=1)

    def capture(self, name: str) -> Path:
        """Where the recording of that name is."""
        return self.folder / f"{name}.pcap.gz"


def missing(tools: Iterable[str] = ()) -> str | None:
    """What this machine lacks of the servers and ``tools`` (programs, or files by their path); None if it has them."""
    if not namespaces_work():
        return "network namespaces are refused here (root with CAP_SYS_ADMIN and CAP_NET_ADMIN makes them)"
    wanted = [tool for tool in dict.fromkeys(tools) if not (Path(tool).exists() if "/" in tool else program(tool))]
    lacking = [*servers.missing_servers(), *wanted]
    return f"not installed: {', '.join(lacking)}; `scripts/setup.sh long` as root installs them" if lacking else None


@contextlib.contextmanager
def plant(chance: random.Random) -> Iterator[Plant]:
    """Start the plant; amounts come from ``chance``, passwords never do."""
    with (
        tempfile.TemporaryDirectory(prefix="hopwatch-nuisance-", ignore_cleanup_errors=True) as temporary,
        network(ADDRESSES, namespaces=True, kernel_chooses="mes-app") as net,
        servers.processes(Path(temporary)) as held,
    ):
        folder = Path(temporary)
        folder.chmod(0o711)
        passwords = {name: secrets.token_hex(12) for name in ("plant_admin", *ROLES, "svc_edge", "svc_ml", "directory")}
        made = Plant(net, held, folder, chance, passwords)
        database = servers.postgresql(held, made.host("mes-db"), 5432, passwords["plant_admin"])
        _fill(made, database)
        servers.mosquitto(held, made.host("uns"), 1883, {name: passwords[name] for name in ("svc_edge", "svc_ml", "svc_mes")})
        yield made


def _fill(plant: Plant, database: servers.PostgreSQL) -> None:
    with database.administrator("postgres") as admin:
        admin.execute("create database mes")
    with database.administrator() as admin:
        admin.execute("create schema mes; create schema quality")
        for table, (columns, values) in TABLES.items():
            rows = 7 if table.endswith("version") else plant.chance.randint(1_500, 2_500)
            admin.execute(f"create table {table} ({columns})")
            admin.execute(f"insert into {table} select {values} from generate_series(1, {rows}) i")
        for role, rights in ROLES.items():
            admin.execute(f"create role {role} login password '{plant.passwords[role]}'")
            admin.execute(f"grant usage on schema mes, quality to {role}")
            admin.execute(rights)
        admin.execute("analyze")
    with (database.folder / "data" / "pg_hba.conf").open("a", encoding="ascii") as rules:
        rules.write("host replication replicator 0.0.0.0/0 scram-sha-256\n")
    with database.administrator() as admin:
        admin.execute("select pg_reload_conf()")


# -- Servers that one case needs ------------------------------------------------------------------------------------


@contextlib.contextmanager
def standby(plant: Plant) -> Iterator[Path]:
    """A real standby of the database on mes-db-2, streaming; yields its data folder."""
    folder = plant.folder / "standby"
    if folder.exists():
        shutil.rmtree(folder)
    private_folder(folder)
    data = folder / "data"
    secret = private_file(folder / "pgpass", f"*:*:*:replicator:{plant.passwords['replicator']}\n")
    base = str(servers.postgresql_program("pg_basebackup"))
    source = ["-h", ADDRESSES["mes-db"], "-U", "replicator", "-D", str(data), "-R", "-X", "stream", "-c", "fast"]
    plant.tool("mes-db-2", base, *source, PGPASSFILE=str(secret), PGGSSENCMODE="disable", PGSSLMODE="disable")
    settings = {"listen_addresses": ADDRESSES["mes-db-2"], "port": "5432", "unix_socket_directories": str(folder), "fsync": "off"}
    given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    argv = [str(servers.postgresql_program("postgres")), "-D", str(data), *given]
    process = plant.held.start("standby", plant.host("mes-db-2"), argv, stop=signal.SIGINT)
    try:
        plant.held.wait_for("standby", process, plant.host("mes-db-2"), (ADDRESSES["mes-db-2"], 5432))
        yield data
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def promote(plant: Plant, data: Path) -> None:
    """Make the standby the primary."""
    servers.run([servers.postgresql_program("pg_ctl"), "promote", "-D", data, "-w"])
    assert plant.host("mes-db-2").call(lambda: servers.answers((ADDRESSES["mes-db-2"], 5432)))


@contextlib.contextmanager
def database_away(plant: Plant) -> Iterator[None]:
    """The database on mes-db ends at once under all its sessions, and is back after the body."""
    name, process, stop = next(one for one in plant.held.running if one[0] == "postgresql")
    process.send_signal(stop)
    process.wait(20)
    plant.held.running.remove((name, process, stop))
    yield
    told = [str(part) for part in process.args]  # type: ignore[union-attr]  # a list, as it was given
    daemon = next(place for place, part in enumerate(told) if part.endswith("/postgres"))
    again = plant.held.start("postgresql", plant.host("mes-db"), told[daemon:], stop=signal.SIGINT)
    plant.held.wait_for("postgresql", again, plant.host("mes-db"), (ADDRESSES["mes-db"], 5432))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(
                host=str(plant.folder / "postgresql"), dbname="mes", user="plant_admin", password=plant.passwords["plant_admin"]
            ).close()
            return
        time.sleep(0.05)
    raise PlantError("postgresql does not come back")


def restart_broker(plant: Plant) -> None:
    """The same of the broker."""
    name, process, stop = next(one for one in plant.held.running if one[0] == "mosquitto")
    process.send_signal(stop)
    process.wait(20)
    plant.held.running.remove((name, process, stop))
    configuration = plant.folder / "mosquitto" / "mosquitto.conf"
    again = plant.held.start("mosquitto", plant.host("uns"), [str(program("mosquitto")), "-c", str(configuration)])
    plant.held.wait_for("mosquitto", again, plant.host("uns"), (ADDRESSES["uns"], 1883))


class Odbc:
    """psqlODBC through unixODBC's C interface, as a spreadsheet loads it."""

    ENVIRONMENT, CONNECTION, STATEMENT, NTS = 1, 2, 3, -3

    def __init__(self, text: str) -> None:
        self.odbc: Any = ctypes.CDLL("libodbc.so.2")
        self.environment, self.handle = ctypes.c_void_p(), ctypes.c_void_p()
        self.odbc.SQLAllocHandle(self.ENVIRONMENT, None, ctypes.byref(self.environment))
        self.odbc.SQLSetEnvAttr(self.environment, 200, ctypes.c_void_p(3), 0)
        self.odbc.SQLAllocHandle(self.CONNECTION, self.environment, ctypes.byref(self.handle))
        if self.odbc.SQLDriverConnect(self.handle, None, text.encode(), self.NTS, None, 0, None, 0) not in (0, 1):
            raise PlantError("psqlODBC: no connection")

    def each(self, function: str, *arguments: Any) -> int:
        """Call a function that gives rows on a statement of its own; returns how many it gave."""
        statement = ctypes.c_void_p()
        self.odbc.SQLAllocHandle(self.STATEMENT, self.handle, ctypes.byref(statement))
        getattr(self.odbc, function)(statement, *arguments)
        rows = 0
        while self.odbc.SQLFetch(statement) in (0, 1):
            rows += 1
        self.odbc.SQLFreeHandle(self.STATEMENT, statement)
        return rows

    def close(self) -> None:
        """Say goodbye and free everything."""
        self.odbc.SQLDisconnect(self.handle)
        self.odbc.SQLFreeHandle(self.CONNECTION, self.handle)
        self.odbc.SQLFreeHandle(self.ENVIRONMENT, self.environment)
