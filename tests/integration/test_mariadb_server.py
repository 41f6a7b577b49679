"""A conduit to MariaDB over TLS is read from the server's own logs: rows equal the clients' ledger and what a tap reads in clear."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pymysql
import pytest

from collectors.feed import Told
from collectors.mariadb_log import MariadbLog
from examples.plant import servers
from examples.plant.network import Network, loopback_capture_works, namespaces_work, network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows
from hopwatch.events import Flow, parse
from tests.integration.declared import HEAD
from tests.integration.mariadb import PASSWORD, MariaDB, answers, started

ADDRESSES = {"mes-db": "10.20.1.21", "mw": "10.30.0.20"}
DECLARATION = (
    HEAD
    + """\
classes:
  production: {{sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}}
zones:
  site-ops: {{level: 3, nets: [{mes-db}/32]}}
  idmz: {{level: 3.5, nets: [{mw}/32]}}
assets:
  mes-db: {{zone: site-ops, kind: mes, at: "{mes-db}:{port}"}}
  mw: {{zone: idmz, kind: middleware, at: {mw}}}
data:
  lots: {{class: production, in: [mes-db], tables: [mes.lots]}}
accounts:
  svc_mw: {{kind: service, owner: integration, from: [mw], auth: password}}
  svc_clear: {{kind: service, owner: integration, from: [mw], auth: password}}
conduits:
  c-down: {{from: site-ops, to: idmz, agent: tap-demo, sees: server-log, feed: mes-db-log}}
hops:
  extract:
    {{who: svc_mw, from: mes-db, to: mw, via: c-down, may: [select], what: [lots], why: scrap analysis, limit: 5000 rows / 1h, keep: 7d,
     approved: {{by: h.keller, ticket: CHG-2}}}}
"""
)
FOLLOW = """
import os, sys
from pathlib import Path
from collectors.feed import Told
from collectors.mariadb_log import MariadbLog
log = MariadbLog.of(Told.of(sys.argv[1], "agent"), "demo", Path(sys.argv[2]))
out = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for batch in log.batches(lambda: False, follow=sys.argv[4] == "follow"):
    if batch:
        os.write(out, b"".join(line + b"\\n" for line in batch))
"""


def said(server: MariaDB, folder: Path) -> str:
    """The feed as a person tells it."""
    secret = servers.private_file(folder / "secret", PASSWORD) if not (folder / "secret").exists() else folder / "secret"
    login = f"user=hopwatch&password_file={secret}&ca={server.certificate}&server_name=mes-db&every=0.2"
    return f"mariadb-log:mes-db-log={server.address}:{server.port}={server.logs}?{login}"


@dataclass
class Day:
    """What clients did, as they counted it, and what was said of it: by the tap's capture and by the logs while they grew."""

    place: Network
    server: MariaDB
    folder: Path
    ledger: dict[str, Counter[str]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    told: list[Flow] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    tapped: list[Json] = field(default_factory=list)


def work(server: MariaDB, user: str, *, tls: bool) -> tuple[Counter[str], int]:
    """The same work for each account: rows by operation, and the client's port."""
    rows: Counter[str] = Counter()
    with server.connect(user, tls=tls) as connection, connection.cursor() as cursor:
        # Longer than the list is asked for; no statement of its own tells where it comes from.
        time.sleep(0.5)
        rows["select"] += cursor.execute("select * from lots where id <= 40")
        rows["insert"] += cursor.execute("insert into lots select id + 1000, 'x' from lots where id <= 25")
        for lot in range(12):
            rows["select"] += cursor.execute("select id from lots where id = %s", (lot,))
        rows["update"] += cursor.execute("update lots set part = 'y' where id > 1010")
        rows["select"] += cursor.execute("select a.id from lots a join lots b using (id)")
        rows["select"] += cursor.execute("select /* several\n lines */ id from lots\n where part = 'p;\n1' or id < 9")
        rows["delete"] += cursor.execute("delete from lots where id > 1000")
        with pytest.raises(pymysql.err.OperationalError):
            cursor.execute("select * from wages")
        return rows, connection._sock.getsockname()[1]


def loaded(server: MariaDB, folder: Path) -> Counter[str]:
    path = folder / "lots.tsv"
    path.write_text("".join(f"{n}\tz\n" for n in range(9001, 9011)), encoding="ascii")
    with server.connect("svc_load", local_infile=True) as connection, connection.cursor() as cursor:
        copied = cursor.execute(f"load data local infile '{path}' into table lots")
        deleted = cursor.execute("delete from lots where id > 9000")
    return Counter(copy=copied, delete=deleted)


def administered(server: MariaDB) -> None:
    with server.connect("svc_admin") as connection, connection.cursor() as cursor:
        cursor.execute("create role planner")
        cursor.execute("grant select on mes.lots to planner")
        cursor.execute("create user contractor identified by 'hunter2'")
        cursor.execute("grant planner to contractor")
        cursor.execute("grant planner to svc_admin")
        cursor.execute("set role planner")
        cursor.execute("select id from lots where id < 4")
        cursor.execute("drop user contractor")


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    with tempfile.TemporaryDirectory(prefix="hopwatch-mariadb-") as name:
        Path(name).chmod(0o755)
        yield from lived(Path(name))


def lived(folder: Path) -> Iterator[Day]:
    namespaces = namespaces_work()
    if not namespaces and not loopback_capture_works():
        pytest.fail("real interfaces need root: neither network namespaces nor a packet socket on lo can be opened")
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as place, servers.processes(folder) as held:
        server = started(held, place.hosts["mes-db"], place.port(3306), folder)
        mw = place.hosts["mw"]
        deadline = time.monotonic() + servers.START_TIMEOUT_S
        while not mw.call(lambda: answers(server)):
            assert time.monotonic() < deadline, held.last_line("mariadb")
            time.sleep(0.1)
        found = Day(place, server, folder)
        with recording(place, folder / "day.pcap.gz", level=1), followed(found):
            for user, tls in (("svc_tls", True), ("svc_clear", False)):
                found.ledger[user], found.ports[user] = mw.call(lambda user=user, tls=tls: work(server, user, tls=tls))  # type: ignore[misc]  # A loop's lambda.
            found.ledger["svc_load"] = mw.call(lambda: loaded(server, folder))
            mw.call(lambda: administered(server))
            for user in ("nobody", "svc_mw"):
                with pytest.raises(pymysql.err.OperationalError):
                    mw.call(lambda user=user: server.connect(user, password="wrong"))
        declaration = folder / "plant.yaml"
        named = {name: place.hosts[name].address for name in ADDRESSES}
        declaration.write_text(DECLARATION.format(port=server.port, **named), encoding="utf-8")
        replay([folder / "day.pcap.gz"], declaration, folder / "store.db", "--agent", "tap-demo")
        found.tapped = stored_flows(folder / "store.db")
        yield found


class followed:
    """The logs are read while they grow, from the monitor's place beside the clients."""

    def __init__(self, day: Day) -> None:
        self._day, self._stop = day, threading.Event()
        self._log = MariadbLog.of(Told.of(said(day.server, day.folder), "agent"), "demo", day.folder / "place")
        self._thread = threading.Thread(target=lambda: day.place.hosts["mw"].call(self._read), daemon=True)

    def _read(self) -> None:
        for batch in self._log.batches(self._stop.is_set, follow=True):
            self._day.told += [event for event in map(parse, batch) if isinstance(event, Flow)]
        # What was written since it last looked.
        for batch in self._log.batches(lambda: False, follow=False):
            self._day.told += [event for event in map(parse, batch) if isinstance(event, Flow)]

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._day.counters = self._log.counters()


def rows_of(flows: list[Flow]) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = {}
    for flow in flows:
        if flow.account and flow.rows:
            counted.setdefault(flow.account, Counter())[flow.operation] += flow.rows
    return counted


def test_the_logs_count_the_rows_that_clients_and_the_plain_tap_count(day: Day) -> None:
    by_log = rows_of(day.told)
    assert {user: by_log[user] for user in day.ledger} == day.ledger
    by_tap: Counter[str] = Counter()
    for flow in day.tapped:
        assert flow["account"] != "svc_tls"
        if flow["account"] == "svc_clear" and flow["rows"]:
            by_tap[flow["operation"]] += flow["rows"]
    assert by_log["svc_tls"] == by_log["svc_clear"] == by_tap
    assert day.counters["mariadb_log_unreadable"] == 0


def test_a_session_that_lasts_is_the_connection_that_the_tap_sees(day: Day) -> None:
    for user, port in day.ports.items():
        told = {flow.connection for flow in day.told if flow.account == user and port in (flow.source.port, flow.destination.port)}
        seen = {flow["connection"] for flow in day.tapped if port in (flow["source"]["port"], flow["destination"]["port"])}
        assert told == seen
        assert len(told) == 1


def test_the_whole_life_of_a_session_is_told_without_a_loss(day: Day) -> None:
    states = {flow.completeness.state for flow in day.told if flow.account in ("svc_tls", "svc_clear", "svc_load")}
    assert states == {"complete"}


def test_roles_accounts_and_refusals_are_told_in_the_words_of_the_contract(day: Day) -> None:
    admin = {(*part.names, *part.columns) for flow in day.told if flow.operation == "admin" for part in flow.objects}
    assert {
        ("account:planner", "create"), ("account:planner", "grant:select"), ("account:contractor", "grant:planner"),
        ("account:contractor", "create", "password"), ("account:contractor", "drop"),
    } <= admin  # fmt: skip
    assert sum(flow.rows for flow in day.told if flow.account == "svc_admin" and flow.role == "planner") == 3
    refused = Counter(flow.account for flow in day.told if flow.operation == "refused" and flow.account)
    assert refused == Counter(nobody=1, svc_mw=1, svc_tls=1, svc_clear=1)


def test_nothing_of_a_password_or_a_literal_is_in_an_event_or_in_what_is_kept(day: Day) -> None:
    kept = "".join(str(flow) for flow in day.told) + (day.folder / "place").read_text(encoding="utf-8")
    assert PASSWORD not in kept
    assert "hunter2" not in kept


def load(server: MariaDB, seed: int, until: Callable[[], bool]) -> int:
    """Rows that a client was sent, over session after session."""
    dice, rows = random.Random(seed), 0
    while not until():
        with server.connect("svc_mw") as connection, connection.cursor() as cursor:
            for _ in range(dice.randint(1, 40)):
                rows += cursor.execute("select id, part from lots where id <= %s", (dice.randint(1, 60),))
    return rows


def test_a_reader_killed_under_load_while_files_rotate_tells_every_row_once(day: Day, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice, out, place = random.Random(seed), tmp_path / "out", tmp_path / "place"
    told, kills = said(day.server, day.folder), 5
    stop, sent = threading.Event(), [0]

    def drive() -> None:
        sent[0] = day.place.hosts["mw"].call(lambda: load(day.server, seed, stop.is_set))

    client = threading.Thread(target=drive, daemon=True)
    client.start()
    with day.server.administrator() as admin, admin.cursor() as cursor:
        for kill in range(kills):
            process = follower(day, told, place, out, "follow")
            time.sleep(dice.uniform(0.6, 1.2))
            if kill % 2:
                logs = day.server.folder / "logs"
                (logs / "slow.log").rename(logs / f"slow.{kill}.log")
                cursor.execute("flush slow logs")
                cursor.execute("set global server_audit_file_rotate_now = on")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    stop.set()
    client.join(30)
    assert follower(day, told, place, out, "once").wait(60) == 0
    events: dict[str, Flow] = {}
    for line in out.read_bytes().splitlines():
        try:
            event = parse(line)
        except ValueError:
            continue  # Torn by a kill; the reader after it says it again.
        if isinstance(event, Flow):
            events[event.event_id] = event
    assert rows_of(list(events.values()))["svc_mw"]["select"] == sent[0]


def follower(day: Day, told: str, place: Path, out: Path, how: str) -> "subprocess.Popen[bytes]":
    command = day.place.hosts["mw"].command([sys.executable, "-c", FOLLOW, told, str(place), str(out), how])
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def test_a_server_that_logs_only_part_is_said_to(day: Day, tmp_path: Path) -> None:
    with day.server.administrator() as admin, admin.cursor() as cursor:
        cursor.execute("set global long_query_time = 0.5")
        try:
            log = MariadbLog.of(Told.of(said(day.server, day.folder), "agent"), "demo", tmp_path / "place")
            lines = day.place.hosts["mw"].call(lambda: [line for batch in log.batches(lambda: False, follow=False) for line in batch])
        finally:
            cursor.execute("set global long_query_time = 0")
    assert log.counters()["mariadb_log_partial"] == 1
    moved = [json.loads(line) for line in lines if b'"operation":"select"' in line]
    assert {flow["completeness"]["state"] for flow in moved} == {"lossy"}
