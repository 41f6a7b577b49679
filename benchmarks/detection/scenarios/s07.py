"""S7, COPY and dump: the four ways to take a table with one command."""

import subprocess
import time

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant import clients, servers
from examples.plant.ledger import Entry

COPIED = "select id, serial, station from mes.genealogy where id <= {rows}"
TREND_ROWS = 5_000
DECOY = "mes.recipe_master_2019"


def attack(stage: Stage) -> Tape:
    """pg_dump and mariadb-dump on a laptop, \\copy on the MES's host, COPY (SELECT ...) in a notebook."""
    rows = stage.chance.randint(500, 3_000)
    with stage.take() as dumped:
        dumped.entries.append(Entry("svc_report", "unread", rows=pg_dump(stage, "laptop", "svc_report")))
    with stage.take() as psql:
        target = stage.folder / "copied"
        stage.psql("mes-app", "svc_mes", f"\\copy ({COPIED.format(rows=rows)}) to '{target}'")
        psql.entries.append(Entry("svc_mes", "postgresql", rows=len(target.read_text(encoding="utf-8").splitlines())))
    login, notebook = stage.login("svc_report", application="python/notebook"), stage.host("notebook")
    with stage.take() as copied:
        notebook.call(lambda: clients.copy_out_asyncpg(login, stage.plant.ledger, notebook.local_address(), COPIED.format(rows=rows)))
    tape = Tape().add(dumped, plant_time("2026-04-07 11:00")).add(psql, plant_time("2026-04-07 12:00"))
    return tape.add(copied, plant_time("2026-04-07 13:00")).add(trends(stage, "laptop"), plant_time("2026-04-07 14:00"))


def twin(stage: Stage) -> Tape:
    """The declared backup account dumps both servers in its window."""
    with stage.take() as dumped:
        dumped.entries.append(Entry("svc_backup", "unread", rows=pg_dump(stage, "vtl", "svc_backup", "-T", DECOY)))
    return Tape().add(dumped, plant_time("2026-04-07 22:10")).add(trends(stage, "vtl"), plant_time("2026-04-07 22:40"))


def pg_dump(stage: Stage, host: str, account: str, *more: str) -> int:
    """Dump the MES's database; the rows that were written."""
    program = servers.postgresql_program("pg_dump")
    login = stage.login(account)
    address = ["-h", login.address, "-p", str(login.port), "-U", account, "-n", "mes", "-n", "quality"]
    written = stage.program(host, [str(program), *address, *more, "mes"], stage.libpq(account)).splitlines()
    begins = [number for number, line in enumerate(written) if line.startswith("COPY ")]
    return sum(written.index("\\.", first) - first - 1 for first in begins)


def trends(stage: Stage, host: str) -> Take:
    """mariadb-dump of the historian's database: SELECTs of whole tables."""
    password = mariadb(stage)
    server = stage.host("hist-db")
    program = servers.program("mariadb-dump")
    if program is None:
        raise servers.PlantError("mariadb-dump is not installed; `make setup` with `long` brings it")
    account = ["--no-defaults", "-h", server.address, "-u", "svc_trends", f"-p{password}", "--skip-ssl", "--no-tablespaces", "trends"]
    with stage.take() as take:
        written = stage.program(host, [program, *account])
        take.entries.append(Entry("svc_trends", "unread", rows=written.count("),(") + written.count("VALUES\n(")))
    return take


def mariadb(stage: Stage) -> str:
    """The historian's MariaDB, started where it is not running yet; the password of its backup account."""
    if "mariadb" in stage.plant.passwords:
        return stage.plant.passwords["mariadb"]
    install, daemon = servers.program("mariadb-install-db"), servers.program("mariadbd")
    if install is None or daemon is None:
        raise servers.PlantError("mariadb-server is not installed; `make setup` with `long` brings it")
    password = stage.plant.passwords["mariadb"] = stage.plant.new_password()
    folder = servers.private_folder(stage.folder / "mariadb")
    data = folder / "data"
    servers.run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"])
    begin = servers.private_file(
        folder / "begin.sql",
        f"create database trends; use trends; create table trends.point (id int, value double);\n"
        f"insert into trends.point select seq, seq * 0.1 from seq_1_to_{TREND_ROWS};\n"
        f"create user svc_trends identified by '{password}'; grant all on trends.* to svc_trends;\n".replace("; ", ";\n"),
    )
    host = stage.host("hist-db")
    options = ["--no-defaults", f"--datadir={data}", f"--socket={folder / 'socket'}", f"--bind-address={host.address}", "--port=3306"]
    process = stage.held.start("mariadb", host, [daemon, *options, f"--init-file={begin}", "--skip-name-resolve"])
    stage.held.wait_for("mariadb", process, host, (host.address, 3306))
    _wait_for_login(stage, password)
    return password


def _wait_for_login(stage: Stage, password: str) -> None:
    """It listens before it has read its first file."""
    client = [str(servers.program("mariadb")), "--no-defaults", "-h", stage.host("hist-db").address, "-u", "svc_trends", "--skip-ssl"]
    for _ in range(100):
        command = stage.host("hist-db").command([*client, f"-p{password}", "-e", "select count(*) from trends.point", "-N"])
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        if finished.stdout.strip() == str(TREND_ROWS):
            return
        time.sleep(0.1)
    raise servers.PlantError(f"mariadb takes no login: {finished.stderr.strip()}")


SCENARIO = Scenario(
    "S7", "COPY and dump", attack, twin,
    (
        Expected("dump", "what", r"dump program: pg_dump", immediate=True),
        Expected("unapproved-operation", "what", r"may select -> copy", immediate=True),
        Expected("undeclared-hop", "who", r"svc_report at 10\.40\.9\.77", immediate=True),
        Expected("undeclared-hop", "where", r"hist-db.* 10\.40\.9\.90|10\.40\.9\.90.* hist-db", immediate=True),
    ),
    attacked="pg_dump, \\copy, COPY (SELECT ...), mariadb-dump",
    benign="the declared backup account in its window, both servers",
)  # fmt: skip
