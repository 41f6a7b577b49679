"""What kills a monitor in week one, one pair of functions a case: what every plant has, and what only looks like it.

The first of a pair is every-day work and must stay quiet under ``nuisance.yaml``; the second, its evil twin, is done by the same
tool, host or account and must alert. Where the twin is the same work at another hour it needs no recording of its own.
"""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.detection import nuisance_plant as house
from benchmarks.detection.nuisance_plant import ADDRESSES, Odbc, Plant
from examples.plant import servers
from examples.plant.servers import private_file, private_folder, program

Work = Callable[[Plant], None]
MINUTE, HOUR, DAY = 60, 3_600, 86_400
CARRIED_BYTES: Final = 21 << 20
BACKFILL_MESSAGES: Final = 480
"""Four hours of a message every half minute."""


@dataclass(frozen=True, slots=True)
class Case:
    """One pair. Times are the plant's, with an offset where its clocks show one twice.

    ``lasts_s`` stretches the recording to that length, ``every_s`` repeats it for a whole day.
    """

    name: str
    begins: tuple[str, ...]
    benign: Work
    twin: Work | None
    twin_begins: str
    verdicts: tuple[str, ...]
    about: str
    """What a twin's finding must name: account or end."""

    lasts_s: int = 0
    every_s: int = 0
    needs: tuple[str, ...] = ()
    """Programs, or files, that only this case needs."""


# -- Load balancer ---------------------------------------------------------------------------------------------------


def balancer(plant: Plant) -> None:
    """HAProxy's own checks of the database and the broker, every half second; nobody uses what it balances."""
    text = f"""
global
defaults
  mode tcp
  timeout connect 2s
  timeout client 5s
  timeout server 5s
  timeout check 2s
frontend database
  bind {ADDRESSES["balancer"]}:15432
  default_backend databases
backend databases
  option pgsql-check user haproxy
  server one {ADDRESSES["mes-db"]}:5432 check inter 500ms
  server two {ADDRESSES["mes-db-2"]}:5432 check inter 500ms backup
backend brokers
  server broker {ADDRESSES["uns"]}:1883 check inter 500ms
"""
    configuration = private_file(plant.folder / "haproxy.cfg", text)
    with plant.running("haproxy", "balancer", str(program("haproxy")), "-db", "-f", str(configuration)):
        time.sleep(3)


def balancer_logs_in(plant: Plant) -> None:
    """The health check's address logs in as the MES, and reads."""
    plant.ask("balancer", "svc_mes", "select id, line from mes.work_order where id < 5")


def balancer_only_logs_in(plant: Plant) -> None:
    """The same, and leaves again: somebody tries a password."""
    plant.connect("balancer", "svc_mes").close()


# -- Monitoring ------------------------------------------------------------------------------------------------------


def exporter(plant: Plant) -> None:
    """Debian's postgres_exporter, scraped three times."""
    where = f"{ADDRESSES['mes-db']}:5432/mes?sslmode=disable"
    variables = {"DATA_SOURCE_URI": where, "DATA_SOURCE_USER": "svc_watch", "DATA_SOURCE_PASS": plant.passwords["svc_watch"]}
    given = [f"{name}={value}" for name, value in variables.items()]
    listen = f"{ADDRESSES['monitor']}:9187"
    daemon = [str(program("prometheus-postgres-exporter")), f"--web.listen-address={listen}", "--log.level=error"]
    with plant.running("exporter", "monitor", "env", *given, *daemon) as process:
        plant.held.wait_for("exporter", process, plant.host("monitor"), (ADDRESSES["monitor"], 9187))
        for _ in range(3):
            plant.tool("monitor", "curl", "-sS", "-o", "/dev/null", f"http://{listen}/metrics")


def exporter_reads(plant: Plant) -> None:
    """The exporter's account, from the exporter's host, selects genealogy."""
    plant.ask("monitor", "svc_watch", "select * from mes.genealogy where id <= 50", application="postgres_exporter")


# -- Scanner ---------------------------------------------------------------------------------------------------------


def scan(plant: Plant) -> None:
    """nmap against declared and closed ports, then what listens there."""
    targets = [ADDRESSES[name] for name in ("mes-db", "mes-app", "uns", "pool", "mw")]
    plant.tool("scanner", "nmap", "-sT", "-Pn", "-n", "-T4", "-p", "22,80,443,1883,3389,5432,6432,8530", *targets)
    plant.tool("scanner", "nmap", "-sT", "-sV", "--version-light", "-Pn", "-n", "-T4", "-p", "1883,5432", *targets[:3:2], timeout_s=120)


def scanner_reads(plant: Plant) -> None:
    """After it, in the scanner's hours, one row."""
    plant.ask("scanner", "svc_mes", "select * from mes.genealogy limit 1")


# -- Pool ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _pool(plant: Plant) -> Iterator["subprocess.Popen[bytes]"]:
    folder = plant.folder / "pool"
    if not folder.exists():
        private_folder(folder)
    users = private_file(folder / "users", f'"svc_mw" "{plant.passwords["svc_mw"]}"\n')
    text = f"""[databases]
mes = host={ADDRESSES["mes-db"]} port=5432 dbname=mes
[pgbouncer]
listen_addr = {ADDRESSES["pool"]}
listen_port = 6432
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
server_lifetime = 1
server_idle_timeout = 1
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
unix_socket_dir =
"""
    configuration = private_file(folder / "pgbouncer.ini", text)
    with plant.running("pgbouncer", "pool", str(program("pgbouncer")), str(configuration)) as process:
        plant.held.wait_for("pgbouncer", process, plant.host("pool"), (ADDRESSES["pool"], 6432))
        yield process


def pool_resets(plant: Plant) -> None:
    """pgbouncer throws its server connections away every second, is killed and comes back; its clients come back too."""
    for _ in range(2):
        with _pool(plant) as process:
            sessions = [plant.connect("mw", "svc_mw", "pool", "dispatch/2.1") for _ in range(4)]
            for turn in range(3):
                for session in sessions:
                    session.execute("select id, line, quantity from mes.work_order where id < %s", (20 + turn,)).fetchall()
                time.sleep(0.5)
            process.kill()
            process.wait(10)
            for session in sessions:
                with contextlib.suppress(psycopg.Error):
                    session.execute("select 1")
                session.close()


def pool_host_reads(plant: Plant) -> None:
    """The pool's host, with another account."""
    plant.ask("pool", "svc_report", "select * from mes.genealogy where id < 100")


# -- Drivers ---------------------------------------------------------------------------------------------------------


def _odbc(plant: Plant, query: bytes) -> int:
    to = plant.login("meier")
    driver = next(iter(sorted(Path("/usr/lib").glob("*/odbc/psqlodbcw.so"))))
    text = f"Driver={driver};Server={to.address};Port={to.port};Database=mes;Uid=meier;Pwd={to.password};SSLmode=disable"

    def body() -> int:
        tool = Odbc(text)
        tool.each("SQLTables", None, 0, None, 0, None, 0, None, 0)
        tool.each("SQLColumns", None, 0, b"mes", -3, b"%", -3, None, 0)
        tool.each("SQLPrimaryKeys", None, 0, b"mes", -3, b"work_order", -3)
        tool.each("SQLForeignKeys", None, 0, None, 0, None, 0, None, 0, b"mes", -3, b"work_order", -3)
        tool.each("SQLStatistics", None, 0, b"mes", -3, b"work_order", -3, 1, 0)
        tool.each("SQLGetTypeInfo", 0)
        tool.each("SQLProcedures", None, 0, None, 0, None, 0)
        rows = tool.each("SQLExecDirect", query, -3)
        tool.close()
        return rows

    return plant.host("desk").call(body)


def drivers(plant: Plant) -> None:
    """What psqlODBC, JDBC and psql ask of the catalogues before a person's query."""
    assert _odbc(plant, b"select id, product from mes.work_order where id < 40") == 39
    url = f"jdbc:postgresql://{ADDRESSES['mes-db']}:5432/mes"
    source = plant.folder / "Catalogue.java"
    source.write_text((Path(__file__).parent / "Catalogue.java").read_text(encoding="utf-8"), encoding="utf-8")
    plant.tool("desk", "java", "-Xshare:auto", "-cp", str(house.JDBC), str(source), url, "meier", PGPASSWORD=plant.passwords["meier"])
    ways = [part for way in (r"\l", r"\d", r"\dt+ mes.*", r"\d mes.work_order", r"\du", r"\df", r"\dn+", r"\dp") for part in ("-c", way)]
    where = f"host={ADDRESSES['mes-db']} dbname=mes user=meier sslmode=disable gssencmode=disable"
    plant.tool("desk", "psql", "-X", where, *ways, PGPASSWORD=plant.passwords["meier"], PAGER="cat")


def driver_reads_statistics(plant: Plant) -> None:
    """The same catalogue chatter, and then pg_stats: a sample of every column's values."""
    _odbc(plant, b"select tablename, attname, most_common_vals::text, histogram_bounds::text from pg_stats where schemaname = 'mes'")


# -- Dump ------------------------------------------------------------------------------------------------------------


def dump(plant: Plant) -> None:
    """pg_dump by the backup account, from the backup host."""
    where = f"host={ADDRESSES['mes-db']} dbname=mes user=svc_backup sslmode=disable gssencmode=disable"
    plant.tool(
        "backup", str(servers.postgresql_program("pg_dump")), "-d", where, "-f", "/dev/null", PGPASSWORD=plant.passwords["svc_backup"]
    )


# -- Failover --------------------------------------------------------------------------------------------------------


def failover(plant: Plant) -> None:
    """A standby is made and follows; the primary ends, the standby takes over, the MES goes on there."""
    both = f"{ADDRESSES['mes-db']},{ADDRESSES['mes-db-2']}"

    def work(rows: int) -> None:
        password = plant.passwords["svc_mes"]
        with psycopg.connect(
            host=both, port=5432, dbname="mes", user="svc_mes", password=password, sslmode="disable", gssencmode="disable",
            target_session_attrs="read-write", application_name="mes-app/7.2", autocommit=True, connect_timeout=5,
        ) as session:  # fmt: skip
            session.execute("select id, line from mes.work_order where id < %s", (rows,)).fetchall()

    with house.standby(plant) as data:
        plant.host("mes-app").call(lambda: work(40))
        time.sleep(1)
        with house.database_away(plant):
            house.promote(plant, data)
            for _ in range(3):
                plant.host("mes-app").call(lambda: work(50))
                time.sleep(0.3)


def stranger_is_seeded(plant: Plant) -> None:
    """The replication account makes a copy on a host that is no standby."""
    secret = private_file(plant.folder / f"pgpass-{time.monotonic_ns()}", f"*:*:*:replicator:{plant.passwords['replicator']}\n")
    base = str(servers.postgresql_program("pg_basebackup"))
    given = ["-h", ADDRESSES["mes-db"], "-U", "replicator", "-D", "-", "-Ft", "-X", "none", "-c", "fast"]
    plant.tool(
        "stranger",
        "sh",
        "-c",
        f"exec {base} {' '.join(given)} > /dev/null",
        PGPASSFILE=str(secret),
        PGSSLMODE="disable",
        PGGSSENCMODE="disable",
    )


# -- Migration -------------------------------------------------------------------------------------------------------

SCRIPTS: Final = (
    "select version, script from mes.schema_version order by version",
    "begin",
    "lock table mes.schema_version in exclusive mode",
    "alter table mes.work_order add column if not exists priority int",
    "create index if not exists work_order_line on mes.work_order (line)",
    "create table if not exists mes.work_order_history (id int, line text)",
    "insert into mes.work_order_history select id, line from mes.work_order",
    "update mes.work_order set priority = 3",
    "comment on column mes.work_order.priority is 'lowest first'",
    "insert into mes.schema_version values (8, 'V8')",
    "commit",
    "analyze mes.work_order",
)


def migration(plant: Plant) -> None:
    """A migration tool's session: DDL, a backfill, its own table of versions."""
    plant.ask("mes-app", "svc_migrate", *SCRIPTS, application="flyway/9")


def migration_copies_out(plant: Plant) -> None:
    """In the same hour the same account takes the genealogy to a host nobody listed."""
    with (
        plant.connect("stranger", "svc_migrate", application="flyway/9") as session,
        session.cursor() as cursor,
        cursor.copy("copy mes.genealogy to stdout") as copy,
    ):
        for _ in copy:
            pass


# -- Backfill --------------------------------------------------------------------------------------------------------


def backfill(plant: Plant) -> None:
    """The gateway was cut off for four hours: it publishes what it kept, and the forecast gets what the broker kept for it."""
    forecast = plant.mqtt("ml", "svc_ml", "ml-forecast", clean=False)
    forecast.subscribe("north/+/oee/#", qos=1)
    forecast.close()
    gateway = plant.mqtt("edge-l1", "svc_edge", "edge-l1")
    gateway.publish([f"north/line{n % 2 + 1}/oee/availability" for n in range(BACKFILL_MESSAGES)], b'{"oee":0.81,"at":1774864800}', 1)
    gateway.publish([f"north/line{n % 2 + 1}/telemetry/t{n % 9}" for n in range(BACKFILL_MESSAGES)], b"21.5", 0)
    gateway.publish([f"north/line{n % 2 + 1}/oee/last{n}" for n in range(20)], b'{"oee":0.8}', 1, retain=True)
    gateway.publish([f"north/line1/recipe/p{n}" for n in range(20)], b"x" * 80, 1, retain=True)
    gateway.close()
    forecast = plant.mqtt("ml", "svc_ml", "ml-forecast", clean=False)
    forecast.wait_for(BACKFILL_MESSAGES)
    forecast.subscribe("north/+/oee/#", qos=1)
    time.sleep(0.5)
    forecast.close()


def wildcard_subscriber(plant: Plant) -> None:
    """During the backfill the forecast's account asks for everything."""
    taken = plant.mqtt("ml", "svc_ml", "ml-forecast-2")
    taken.subscribe("#")
    taken.wait_for(20)
    taken.close()


# -- Patch reboot ----------------------------------------------------------------------------------------------------


def reboot(plant: Plant) -> None:
    """Database and broker restart under open sessions; every client tries until they are back."""
    sessions = [plant.connect("mes-app", "svc_mes", application="mes-app/7.2") for _ in range(5)]
    edge, forecast = plant.mqtt("edge-l1", "svc_edge", "edge-l1"), plant.mqtt("ml", "svc_ml", "ml-forecast")
    forecast.subscribe("north/+/oee/#")

    def tries() -> None:
        for _ in range(200):
            try:
                plant.ask("mes-app", "svc_mes", "select id, line from mes.work_order where id < 9", application="mes-app/7.2")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return

    thread = threading.Thread(target=tries)
    with house.database_away(plant):
        thread.start()
        house.restart_broker(plant)
        time.sleep(1)
    thread.join()
    for session in sessions:
        session.close()
    edge.publish(["north/line1/oee/availability"] * 5, b"1", 1)
    time.sleep(0.5)
    edge.close()
    forecast.close()
    for _ in range(5):
        plant.ask("mes-app", "svc_mes", "select id, line from mes.work_order where id < 9", application="mes-app/7.2")


def after_reboot_from_a_desk(plant: Plant) -> None:
    """Among those that come back, the MES's account comes from a desk."""
    plant.ask("desk", "svc_mes", "select id, line from mes.work_order where id < 9", application="mes-app/7.2")


# -- Nightly extraction (DST) and month end ---------------------------------------------------------------------------


def extraction(plant: Plant) -> None:
    """The nightly job: inspections by COPY, orders by SELECT."""
    with plant.connect("mw", "svc_mw", application="quality-extract/1.4") as session, session.cursor() as cursor:
        cursor.execute("select id, line, product from mes.work_order where id < 300").fetchall()
        with cursor.copy("copy (select id, serial, result from quality.inspection where id < 900) to stdout") as copy:
            for _ in copy:
                pass


def month_end(plant: Plant) -> None:
    """The closing reads what a month has made, again and again."""
    with plant.connect("mes-app", "svc_mes", application="mes-app/7.2") as session:
        rows = 0
        while rows < 80_000:
            rows += len(session.execute("select id, line, product, quantity from mes.work_order").fetchall())


# -- Infrastructure --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _resolver(plant: Plant) -> Iterator[None]:
    text = f"""
no-resolv
no-hosts
no-daemon
no-poll
port=53
listen-address={ADDRESSES["dns"]}
bind-interfaces
user=nobody
pid-file=
cache-size=0
edns-packet-max=4096
local=/plant.example/
host-record=mes-db.plant.example,{ADDRESSES["mes-db"]}
host-record=uns.plant.example,{ADDRESSES["uns"]}
srv-host=_ldap._tcp.plant.example,directory.plant.example,389
host-record=directory.plant.example,{ADDRESSES["directory"]}
txt-record=plant.example,"v=spf1 -all"
"""
    configuration = private_file(plant.folder / "dnsmasq.conf", text)
    # Longer than a line of its configuration may be.
    long = "--txt-record=t.plant.example," + ",".join(["a" * 250] * 14)
    with plant.running("dnsmasq", "dns", str(program("dnsmasq")), f"--conf-file={configuration}", long, unprivileged=False):
        deadline = time.monotonic() + 10
        while not plant.tool(
            "mw", "dig", f"@{ADDRESSES['dns']}", "+short", "+tries=1", "+time=1", "uns.plant.example", may_fail=True
        ).startswith("10."):
            if time.monotonic() > deadline:
                raise servers.PlantError(f"dnsmasq does not answer: {plant.held.last_line('dnsmasq')}")
        yield


def _ask_names(plant: Plant, host: str, *questions: str) -> None:
    asked = private_file(plant.folder / f"questions-{host}", "\n".join(questions) + "\n")
    plant.tool(
        host, "dig", f"@{ADDRESSES['dns']}", "+tries=2", "+time=2", "+ignore", "+noall", "+bufsize=4096", "-f", str(asked), may_fail=True
    )


def names(plant: Plant) -> None:
    """A resolver's day: addresses, services, reverse, what does not exist, a short TXT."""
    usual = ("mes-db.plant.example A", "mes-db.plant.example AAAA", "uns.plant.example A", "_ldap._tcp.plant.example SRV",
             "21.1.20.10.in-addr.arpa PTR", "wpad.plant.example A", "plant.example TXT")  # fmt: skip
    with _resolver(plant):
        for host in ("mes-app", "mw", "ml", "edge-l1", "desk"):
            _ask_names(plant, host, *usual * 3)


def names_carry(plant: Plant) -> None:
    """20 MiB to one host in TXT answers."""
    with _resolver(plant):
        _ask_names(plant, "mw", *["t.plant.example TXT"] * (CARRIED_BYTES // 3_600))


def infrastructure(plant: Plant) -> None:
    """Time, directory, updates and what machines shout to their neighbours."""
    folder = plant.folder / "infrastructure"
    if not folder.exists():
        private_folder(folder)
    _time(plant, folder)
    _directory(plant, folder)
    _updates(plant)

    def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loud:
            loud.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for place in (("224.0.0.251", 5353), ("239.255.255.250", 1900), ("255.255.255.255", 67), ("10.20.1.255", 137)):
                for _ in range(3):
                    loud.sendto(bytes(120), place)

    for name in ("desk", "mes-app", "edge-l1"):
        plant.host(name).call(shout)


def _time(plant: Plant, folder: Path) -> None:
    text = f"local stratum 8\nallow 10.0.0.0/8\nbindaddress {ADDRESSES['time']}\ncmdport 0\npidfile {folder}/chrony.pid\n"
    configuration = private_file(folder / "chrony.conf", text)
    with plant.running("chronyd", "time", str(program("chronyd")), "-x", "-U", "-d", "-u", "nobody", "-f", str(configuration)):
        time.sleep(0.5)
        for host in ("mes-app", "mw", "edge-l1"):
            ask = f"server {ADDRESSES['time']} iburst maxsamples 1"
            plant.tool(
                host,
                str(program("chronyd")),
                "-Q",
                "-U",
                "-t",
                "4",
                "-u",
                "nobody",
                "-f",
                "/dev/null",
                f"pidfile {folder}/{host}.pid",
                ask,
                may_fail=True,
            )


def _directory(plant: Plant, folder: Path) -> None:
    data = folder / f"ldap-{time.monotonic_ns()}"
    private_folder(data)
    secret = plant.passwords["directory"]
    text = (
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"pidfile {data}/pid\ndatabase mdb\nsuffix dc=plant\nrootdn cn=admin,dc=plant\nrootpw {secret}\ndirectory {data}\n"
    )
    configuration = private_file(data / "slapd.conf", text)
    entries = "dn: dc=plant\nobjectClass: organization\nobjectClass: dcObject\no: plant\ndc: plant\n\n"
    entries += "".join(f"dn: cn=host{n},dc=plant\nobjectClass: device\ncn: host{n}\n\n" for n in range(60))
    added, word = private_file(data / "entries.ldif", entries), private_file(data / "word", secret)
    at = f"ldap://{ADDRESSES['directory']}:389"
    with plant.running("slapd", "directory", str(program("slapd")), "-h", at, "-f", str(configuration), "-d", "0") as process:
        plant.held.wait_for("slapd", process, plant.host("directory"), (ADDRESSES["directory"], 389))
        login = ["-x", "-H", at, "-D", "cn=admin,dc=plant", "-y", str(word)]
        plant.tool("mes-app", "ldapadd", *login, "-f", str(added))
        for host in ("mes-app", "desk", "mw"):
            plant.tool(host, "ldapsearch", *login, "-b", "dc=plant", "(objectClass=device)")


def _updates(plant: Plant) -> None:
    served = plant.folder / "updates"
    if not served.exists():
        served.mkdir(mode=0o755)
        (served / "update.cab").write_bytes(bytes(2 << 20))
    address = ADDRESSES["updates"]
    with plant.running(
        "updates", "updates", "/usr/bin/python3", "-m", "http.server", "8530", "--bind", address, "-d", str(served)
    ) as process:
        plant.held.wait_for("updates", process, plant.host("updates"), (address, 8530))
        for host in ("mes-app", "desk", "mw"):
            plant.tool(host, "curl", "-sS", "-o", "/dev/null", f"http://{address}:8530/update.cab")


def updates_from_elsewhere(plant: Plant) -> None:
    """The same update traffic, from a host that is no update server."""
    served = plant.folder / "updates"
    at = ADDRESSES["stranger"]
    with plant.running(
        "elsewhere", "stranger", "/usr/bin/python3", "-m", "http.server", "8530", "--bind", at, "-d", str(served)
    ) as process:
        plant.held.wait_for("elsewhere", process, plant.host("stranger"), (at, 8530))
        plant.tool("mw", "curl", "-sS", "-o", "/dev/null", f"http://{at}:8530/update.cab")


# -- What goes on all the time ----------------------------------------------------------------------------------------


def ordinary(plant: Plant) -> None:
    """A minute of the plant: the MES writes and reads, dispatching asks, the line publishes, the forecast listens."""
    forecast = plant.mqtt("ml", "svc_ml", "ml-forecast")
    forecast.subscribe("north/+/oee/#", qos=1)
    gateway = plant.mqtt("edge-l1", "svc_edge", "edge-l1")
    gateway.publish([f"north/line{n % 2 + 1}/telemetry/t{n % 9}" for n in range(60)], b"21.5", 0)
    gateway.publish([f"north/line{n % 2 + 1}/oee/availability" for n in range(20)], b'{"oee":0.81}', 1)
    forecast.wait_for(20)
    first = plant.chance.randint(1_000_000, 2_000_000_000)
    with plant.connect("mes-app", "svc_mes", application="mes-app/7.2") as session:
        for number in range(3):
            session.execute("insert into mes.work_order (id, line, quantity) values (%s, 'line1', 7)", (first + number,))
        session.execute("select id, line, quantity from mes.work_order where id < 60").fetchall()
        session.execute("select id, component from mes.genealogy where parent = 40").fetchall()
    plant.ask("mw", "svc_mw", "select id, line, quantity from mes.work_order where id < 20", application="dispatch/2.1")
    gateway.close()
    forecast.close()


UNWANTED = ("undeclared-hop", "undeclared-account", "undeclared-destination")

CASES: Final = (
    Case("load balancer checks", ("2026-03-30 00:00",), balancer, balancer_logs_in, "2026-03-30 11:00",
         UNWANTED, "10.20.1.26", every_s=20, needs=("haproxy",)),
    Case("a check that only logs in", (), balancer, balancer_only_logs_in, "2026-03-30 11:00", UNWANTED, "10.20.1.26"),
    Case("metrics exporter", ("2026-03-30 00:00",), exporter, exporter_reads, "2026-03-30 12:00",
         (*UNWANTED, "undeclared-data"), "svc_watch", every_s=45, needs=("prometheus-postgres-exporter", "curl")),
    Case("vulnerability scan", ("2026-03-29 04:10",), scan, scanner_reads, "2026-03-29 04:30",
         UNWANTED, "10.20.0.8", needs=("nmap",)),
    Case("pool resets", ("2026-03-30 08:00",), pool_resets, pool_host_reads, "2026-03-30 09:00",
         UNWANTED, "svc_report", lasts_s=2 * HOUR, needs=("pgbouncer",)),
    Case("driver catalogues", ("2026-03-30 09:00", "2026-03-31 09:00"), drivers, driver_reads_statistics, "2026-03-30 15:00",
         ("undeclared-data",), "meier", needs=("java", "psql", str(house.JDBC))),
    Case("nightly dump", ("2026-03-29 01:10", "2026-03-30 01:10", "2026-03-31 01:10"), dump, None, "2026-03-30 14:00",
         ("outside-window",), "svc_backup"),
    Case("failover to the standby", ("2026-03-30 13:00",), failover, stranger_is_seeded, "2026-03-30 14:00",
         UNWANTED, "replicator", lasts_s=10 * MINUTE),
    Case("schema migration", ("2026-03-29 05:00",), migration, migration_copies_out, "2026-03-29 05:20", UNWANTED, "svc_migrate"),
    Case("four hours of backfill", ("2026-03-30 16:00",), backfill, wildcard_subscriber, "2026-03-30 16:10",
         ("undeclared-data",), "svc_ml"),
    Case("patch reboot", ("2026-03-29 04:40",), reboot, after_reboot_from_a_desk, "2026-03-29 04:50", UNWANTED, "svc_mes"),
    Case("clocks go forward", ("2026-03-29 03:20",), extraction, None, "2026-03-30 03:20", ("outside-window",), "svc_mw"),
    # A job that is started by the wall clock runs in both hours.
    Case("clocks go back", ("2026-10-25 02:20+02:00", "2026-10-25 02:20+01:00"), extraction, None, "2026-10-25 03:20",
         ("outside-window",), "svc_mw"),
    Case("month end", ("2026-03-31 19:00",), month_end, None, "2026-03-30 19:00",
         ("over-limit",), "svc_mes", lasts_s=30 * MINUTE),
    Case("a day of names", ("2026-03-30 00:00",), names, names_carry, "2026-03-30 12:00",
         ("over-limit", "carrier"), "10.20.0.2", lasts_s=DAY, needs=("dnsmasq", "dig")),
    Case("time, directory, updates", ("2026-03-30 00:00",), infrastructure, updates_from_elsewhere, "2026-03-30 12:00",
         ("undeclared-destination", "undeclared-hop"), "10.40.9.99", lasts_s=DAY,
         needs=("chronyd", "slapd", "ldapadd", "ldapsearch", "curl")),
)  # fmt: skip
