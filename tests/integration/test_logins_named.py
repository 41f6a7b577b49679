"""Who it is over TLS, told by a domain controller alone: Kerberos and Windows records without a port name what a tap cannot read."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from examples.plant import servers
from examples.plant.network import network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows
from tests.integration.declared import HEAD

ADDRESSES = {"mes-db": "10.20.1.21", "mw": "10.30.0.20", "app": "10.20.1.20", "laptop": "10.50.0.9"}
PASSWORD = "only-for-this-test"
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  production: {{sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}}
zones:
  site-ops: {{level: 3, nets: [{mes-db}/32, {app}/32]}}
  idmz: {{level: 3.5, nets: [{mw}/32]}}
  office: {{level: 4, nets: [{laptop}/32]}}
assets:
  mes-db: {{zone: site-ops, kind: mes, at: "{mes-db}:{port}"}}
  mw: {{zone: idmz, kind: middleware, at: {mw}}}
  app: {{zone: site-ops, kind: mes, at: {app}}}
data:
  lots: {{class: production, in: [mes-db], tables: [public.lots]}}
accounts:
  svc_mw: {{kind: service, owner: integration, from: [mw], auth: scram-sha-256}}
conduits:
  c-down: {{from: site-ops, to: idmz, agent: tap-demo, sees: sizes}}
  c-office: {{from: site-ops, to: office, agent: tap-demo, sees: sizes}}
hops:
  extract:
    {{who: svc_mw, from: mes-db, to: mw, via: c-down, may: [select], what: [lots], why: scrap analysis, limit: 9 MiB / 1h, keep: 7d,
     approved: {{by: h.keller, ticket: CHG-2}}}}
"""
)


@dataclass
class Day:
    """Sessions over TLS as a tap recorded them, and where the server is."""

    capture: Path
    declaration: Path
    server: tuple[str, int]
    hosts: dict[str, str]
    began: datetime


def session(at: tuple[str, int], rows: int) -> None:
    with psycopg.connect(host=at[0], port=at[1], dbname="mes", user="tls", password=PASSWORD, sslmode="require") as client:
        assert len(client.execute("select * from lots limit %s", (rows,)).fetchall()) == rows


@pytest.fixture(scope="module")
def day(namespaces: bool) -> Iterator[Day]:
    # Its path is open to the server's unprivileged user, which pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="hopwatch-logins-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as place, servers.processes(folder) as held:
            host, port = place.hosts["mes-db"], place.port(5432)
            server = servers.postgresql(held, host, port, PASSWORD, certificate=servers.self_signed(folder, "mes-db"))
            with server.administrator("postgres") as admin:
                admin.execute("create database mes")
            with server.administrator() as admin:
                admin.execute("create table lots as select g as id from generate_series(1, 300) g")
                # On the wire nobody can read it; who it is say the domain's records.
                admin.execute(f"create role tls login password '{PASSWORD}'")
                admin.execute("grant select on lots to tls")
            at = (server.address, port)
            hosts = {name: place.hosts[name].address for name in ADDRESSES}
            declaration = folder / "plant.yaml"
            declaration.write_text(DECLARATION.format(port=port, **hosts), encoding="utf-8")
            capture, began = folder / "day.pcap.gz", datetime.now(UTC)
            with recording(place, capture, level=1):
                for client in ("mw", "laptop", "app"):
                    for rows in (10, 200):
                        place.hosts[client].call(lambda rows=rows: session(at, rows))
            yield Day(capture, declaration, at, hosts, began)


def ticket(day: Day, user: str, client: str, service: str = "postgres", seconds: float = -60) -> Json:
    """Event 4769 of a domain controller, as Winlogbeat writes it: the port is that of the request to the controller."""
    at = (day.began + timedelta(seconds=seconds)).isoformat()
    data = {
        "TargetUserName": f"{user}@PLANT.EXAMPLE",
        "ServiceName": service,
        "IpAddress": f"::ffff:{day.hosts[client]}",
        "IpPort": "49999",
    }
    return {"@timestamp": at, "winlog": {"event_id": 4769, "event_data": data | {"Status": "0x0"}}}


def logon(day: Day, user: str, client: str) -> Json:
    """Event 4624 of the server's own log, through SSPI: no port."""
    system = {"EventID": 4624, "TimeCreated": {"#attributes": {"SystemTime": (day.began - timedelta(seconds=2)).isoformat()}}}
    data = {"TargetUserName": user, "TargetLogonId": "0x1a2b", "IpAddress": day.hosts[client], "IpPort": "-"}
    return {"Event": {"System": system, "EventData": data}}


def watched(day: Day, folder: Path, *records: Json) -> dict[str, list[Json]]:
    """The tap's windows that carry data, by their client, each with its judgement; and findings by who."""
    (folder / "logins.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    source = f"logins:dc-log={day.server[0]}:{day.server[1]}={folder / 'logins.json'}?service=postgres"
    more = ["--feed", source, "--feeds-state", str(folder / "place")] if records else []
    watch, _ = replay([day.capture], day.declaration, folder / "store.db", "--agent", "tap-demo", *more)
    assert not [line for line in watch.errors if "UNSIGNED" not in line], watch.errors
    found: dict[str, list[Json]] = {"findings": [event for _, event in watch.findings().values()], "said": [*watch.lines[-1][1:]]}
    for flow in stored_flows(folder / "store.db"):
        if flow["seen_by"] == "tap" and flow["operation"] == "transfer" and flow["bytes"]:
            ends = {flow["source"]["address"], flow["destination"]["address"]} - {day.server[0]}
            found.setdefault(next(name for name, address in day.hosts.items() if address in ends), []).append(flow)
    return found


def test_records_without_a_port_name_the_sessions_of_their_address_and_no_other(day: Day, tmp_path: Path) -> None:
    found = watched(day, tmp_path, ticket(day, "svc_mw", "mw"), ticket(day, "h.keller", "laptop"), ticket(day, "someone", "app", "cifs"))
    # The declared account is checked, and a person is named in the finding; a ticket for another service names nobody.
    assert {flow["judgement"]["checked"]["who"] for flow in found["mw"]} == {"checked"}
    assert {flow["judgement"]["verdict"] for flow in found["mw"]} <= {"declared", "declared-in-part"}
    who = {(event["who"], event["client"]) for event in found["findings"] if event["observed"]["bytes"]}
    assert ("h.keller", day.hosts["laptop"]) in who
    assert all(name is None for name, client in who if day.hosts["app"] in client)
    assert any(day.hosts["app"] in client for _, client in who)


def test_a_logon_of_windows_without_its_port_names_them_too(day: Day, tmp_path: Path) -> None:
    found = watched(day, tmp_path, logon(day, "svc_mw", "mw"))
    assert {flow["judgement"]["checked"]["who"] for flow in found["mw"]} == {"checked"}


def test_without_records_nobody_is_named_and_of_two_accounts_neither(day: Day, tmp_path: Path) -> None:
    for records in ([], [ticket(day, "svc_mw", "mw"), ticket(day, "svc_other", "mw")]):
        folder = tmp_path / str(len(records))
        folder.mkdir()
        found = watched(day, folder, *records)
        assert {flow["judgement"]["checked"]["who"] for flow in found["mw"]} <= {"assumed", "unknown"}
        summary = found["said"][0]
        assert summary.get("forgotten", {}).get("ambiguous_accounts", 0) == len(records)
