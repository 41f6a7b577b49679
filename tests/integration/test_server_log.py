"""A conduit over TLS is decided from the server's own log: the rows of a real PostgreSQL with pgAudit equal the clients' ledger."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from examples.plant import servers
from examples.plant.network import Network, network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows
from tests.integration.declared import HEAD

ADDRESSES = {"mes-db": "10.20.1.21", "mw": "10.30.0.20"}
PASSWORD = "only-for-this-test"
LOGGED = {
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_timezone": "UTC",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_statement": "all",
    "shared_preload_libraries": "pgaudit",
    "pgaudit.log": "all, -misc",
    "pgaudit.log_rows": "on",
    "pgaudit.log_relation": "on",
}
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  production: {{sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}}
zones:
  site-ops: {{level: 3, nets: [{mes-db}/32]}}
  idmz: {{level: 3.5, nets: [{mw}/32]}}
assets:
  mes-db: {{zone: site-ops, kind: mes, at: "{mes-db}:{port}"}}
  mw: {{zone: idmz, kind: middleware, at: {mw}}}
data:
  lots: {{class: production, in: [mes-db], tables: [public.lots]}}
accounts:
  svc_mw: {{kind: service, owner: integration, from: [mw], auth: scram-sha-256}}
  svc_tls: {{kind: service, owner: integration, from: [mw], auth: scram-sha-256}}
  svc_clear: {{kind: service, owner: integration, from: [mw], auth: scram-sha-256}}
  svc_copy: {{kind: service, owner: integration, from: [mw], auth: scram-sha-256}}
conduits:
  c-up: {{from: idmz, to: site-ops, agent: tap-demo, sees: server-log, feed: mes-db-log}}
  c-down: {{from: site-ops, to: idmz, agent: tap-demo, sees: server-log, feed: mes-db-log}}
hops:
  extract:
    {{who: svc_mw, from: mes-db, to: mw, via: c-down, may: [select], what: [lots], why: scrap analysis, limit: 5000 rows / 1h, keep: 7d,
     approved: {{by: h.keller, ticket: CHG-2}}}}
"""
)


@dataclass
class Day:
    """What clients did: rows by account and operation as they counted them, over TLS and in clear."""

    place: Network
    capture: Path
    log: str
    declaration: Path
    address: tuple[str, int]
    ledger: dict[str, Counter[str]] = field(default_factory=dict)


def work(at: tuple[str, int], user: str, sslmode: str) -> Counter[str]:
    """The same work for each account."""
    rows: Counter[str] = Counter()
    with psycopg.connect(
        host=at[0], port=at[1], dbname="mes", user=user, password=PASSWORD, sslmode=sslmode, application_name="extract/1.4"
    ) as client:
        rows["select"] += len(client.execute("select * from lots where id <= 40").fetchall())
        rows["insert"] += client.execute("insert into lots select g, 'x' from generate_series(1001, 1025) g").rowcount
        for lot in range(12):
            rows["select"] += len(client.execute("select id from lots where id = %s", (lot,), prepare=True).fetchall())
        rows["update"] += client.execute("update lots set part = 'y' where id > 1010").rowcount
        rows["select"] += len(client.execute("select a.id from lots a join lots b using (id)").fetchall())
        rows["delete"] += client.execute("delete from lots where id > 1000").rowcount
        client.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute("select * from wages")
        client.rollback()
    return rows


def extract(at: tuple[str, int]) -> Counter[str]:
    with psycopg.connect(
        host=at[0], port=at[1], dbname="mes", user="svc_mw", password=PASSWORD, sslmode="require", application_name="extract/1.4"
    ) as client:
        found = sum(len(client.execute("select id, part from lots where id > %s", (low,)).fetchall()) for low in (0, 100, 200))
    return Counter(select=found)


def copied(at: tuple[str, int]) -> None:
    with psycopg.connect(host=at[0], port=at[1], dbname="mes", user="svc_copy", password=PASSWORD, sslmode="require") as client:
        with client.cursor().copy("copy lots to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 300
        with client.cursor(name="slowly") as cursor:
            cursor.execute("select * from lots")
            assert len(cursor.fetchmany(10)) == 10


@pytest.fixture(scope="module")
def day(namespaces: bool) -> Iterator[Day]:
    # Its path is open to the server's unprivileged user, which pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="hopwatch-log-") as name:
        Path(name).chmod(0o755)
        yield from lived(Path(name), namespaces)


def lived(folder: Path, namespaces: bool) -> Iterator[Day]:
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as place, servers.processes(folder) as held:
        host, port = place.hosts["mes-db"], place.port(5432)
        key = servers.self_signed(folder, "mes-db")
        server = servers.postgresql(held, host, port, PASSWORD, certificate=key, more=LOGGED)
        with server.administrator("postgres") as admin:
            admin.execute("create database mes")
        with server.administrator() as admin:
            admin.execute("create table lots as select g as id, 'p' || g as part from generate_series(1, 300) g")
            admin.execute("create table wages (id int)")
            for user in ("svc_mw", "svc_tls", "svc_clear", "svc_copy"):
                admin.execute(f"create role {user} login password '{PASSWORD}'")
                admin.execute(f"grant all on lots to {user}")
        at, mw = (server.address, port), place.hosts["mw"]
        declaration = folder / "plant.yaml"
        said = {name: place.hosts[name].address for name in ADDRESSES}
        declaration.write_text(DECLARATION.format(port=port, **said), encoding="utf-8")
        found = Day(place, folder / "day.pcap.gz", str(server.folder / "data" / "log" / "*.json"), declaration, at)
        with recording(place, found.capture, level=1):
            found.ledger["svc_tls"] = mw.call(lambda: work(at, "svc_tls", "require"))
            found.ledger["svc_clear"] = mw.call(lambda: work(at, "svc_clear", "disable"))
            found.ledger["svc_mw"] = mw.call(lambda: extract(at))
            mw.call(lambda: copied(at))
        yield found


def watch(day: Day, folder: Path, *more: str) -> list[Json]:
    """The flows of the capture, and of the log if it is named, each with its judgement."""
    store = folder / "store.db"
    watched, _ = replay([day.capture], day.declaration, store, "--agent", "tap-demo", *more)
    assert not [line for line in watched.errors if "UNSIGNED" not in line], watched.errors
    return stored_flows(store)


def with_log(day: Day, folder: Path) -> list[Json]:
    source = f"postgresql-log:mes-db-log={day.address[0]}:{day.address[1]}={day.log}"
    return watch(day, folder, "--feed", source, "--feeds-state", str(folder / "place"))


@pytest.fixture(scope="module")
def flows(day: Day, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return with_log(day, tmp_path_factory.mktemp("both"))


def rows(flows: list[Json], seen_by: str) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = {}
    for flow in flows:
        if flow["seen_by"] == seen_by and flow["account"] and flow["rows"]:
            counted.setdefault(flow["account"], Counter())[flow["operation"]] += flow["rows"]
    return counted


def verdicts(flows: list[Json], seen_by: str, account: str | None, operation: str) -> set[str]:
    told = [flow for flow in flows if (flow["seen_by"], flow["account"], flow["operation"]) == (seen_by, account, operation)]
    return {flow["judgement"]["verdict"] for flow in told}


def test_the_log_counts_the_rows_that_clients_and_the_plain_tap_count(day: Day, flows: list[Json]) -> None:
    by_log, by_tap = rows(flows, "server-log"), rows(flows, "tap")
    assert {user: by_log[user] for user in day.ledger} == day.ledger
    assert by_log["svc_tls"] == by_log["svc_clear"] == by_tap["svc_clear"]
    assert "svc_tls" not in by_tap


def test_the_two_views_are_of_one_connection(flows: list[Json]) -> None:
    by_log = {flow["connection"] for flow in flows if flow["seen_by"] == "server-log" and (flow["account"] or "").startswith("svc_")}
    by_tap = {flow["connection"] for flow in flows if flow["seen_by"] == "tap"}
    assert len(by_log) == 4
    assert by_log == by_tap


def test_an_encrypted_conduit_is_decided_from_the_log_and_blind_without_it(day: Day, flows: list[Json], tmp_path: Path) -> None:
    assert verdicts(flows, "server-log", "svc_mw", "select") == {"declared"}
    unread = watch(day, tmp_path)
    assert verdicts(unread, "tap", None, "transfer") == {"blind"}


def test_rows_of_copy_and_cursors_are_said_to_be_unknown(flows: list[Json]) -> None:
    moved = [flow for flow in flows if flow["account"] == "svc_copy" and flow["operation"] in ("copy", "select")]
    assert {(flow["operation"], flow["completeness"]["state"]) for flow in moved} == {("copy", "lossy"), ("select", "lossy")}


def test_nothing_of_a_password_or_a_literal_is_in_an_event(flows: list[Json]) -> None:
    assert PASSWORD not in json.dumps(flows)
