"""Every query of every panel and variable, on a real PostgreSQL and a real Prometheus that the product itself filled."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerts.book import book, decision_id
from alerts.delivery.run import Delivery, letters
from alerts.outbox import open_outbox
from alerts.settings import alerts_settings
from dashboards.grafana.parts import MOVED
from examples.broker import Cluster
from examples.database import Database
from hopwatch.config import served
from hopwatch.events import Decision, time_text
from tests.bus.real import make_topics
from tests.integration.panels import Chosen, Target, loaded, prometheus, sql, targets

ROOT = Path(__file__).parents[2]
PLANT_DAY = ROOT / "examples" / "plant-day.pcap.gz"
PREFIX = "grafana."
WAIT_S = 60.0
PERSON = "h.keller"

NODES = {"id", "title", "subtitle", "mainstat", "secondarystat", "color"}
EDGES = {"id", "source", "target", "mainstat", "secondarystat", "color", "thickness"}
NODES_MAX = 1_500

QUIET = ("declared", "declared-in-part", "service", "blind")
NAMED = "SELECT relname FROM pg_class WHERE relnamespace ="

EMPTY = {("hopwatch-declared", "Unseen")}
"""Panels that may be empty: on the plant's day every hop was used."""


@dataclass
class House:
    """A running plant: what reads its database and its figures."""

    owner: str
    reader: str
    figures: str
    first: str
    last: str

    def rows(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:  # Any: SQL values.
        with psycopg.connect(self.reader) as db:
            done = db.execute(query.encode())
            return [column.name for column in done.description or ()], done.fetchall()

    def asked(self, query: str, *, instant: bool) -> list[dict[str, Any]]:  # Any: JSON values.
        now = time.time()
        more = {"time": now} if instant else {"start": now - 20, "end": now, "step": 2}
        address = f"{self.figures}/api/v1/{'query' if instant else 'query_range'}?{urllib.parse.urlencode({'query': query} | more)}"
        return list(fetched(address)["data"]["result"])


def fetched(address: str) -> Any:  # Any: JSON values.
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def lossy(path: Path) -> Path:
    """The plant's day with every twentieth frame gone, as at a tap that was too slow."""
    whole = gzip.decompress(PLANT_DAY.read_bytes())
    kept, at, number = [whole[:24]], 24, 0
    while at < len(whole):
        (size,) = struct.unpack_from("<I", whole, at + 8)
        number += 1
        if number % 20:
            kept.append(whole[at : at + 16 + size])
        at += 16 + size
    path.write_bytes(b"".join(kept))
    return path


@contextlib.contextmanager
def running(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(holds: Callable[[], bool], what: str, logs: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(OSError, IndexError, psycopg.Error):
            if holds():
                return
        if time.monotonic() > deadline:
            said = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in sorted(logs.glob("*.log")))
            pytest.fail(f"not in {WAIT_S:.0f} s: {what}\n{said}")
        time.sleep(0.1)


def talk(port: int, listening: subprocess.Popen[bytes]) -> None:
    """Connections on the loopback interface, for a live agent to see as long as it runs."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while listening.poll() is None:
            with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as near:
                client.sendall(b"x" * 100)
                near.recv(200)
            time.sleep(0.2)


@pytest.fixture(scope="module")
def house(broker: Cluster, server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The plant's day and a live agent through the product: agents, broker, detector, store, alerts; then what Grafana reads."""
    folder = tmp_path_factory.mktemp("grafana")
    owner = server.uri("grafana")
    make_topics(broker, PREFIX, partitions=1)
    key = folder / "key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    config = folder / "hopwatch.toml"
    config.write_text(f'key = "{key}"\n[kafka]\nbootstrap_servers = "{broker.bootstrap}"\ntopic_prefix = "{PREFIX}"\n')
    declaration = str(ROOT / "examples" / "plant-demo.yaml")
    ports = {job: free_port() for job in ("detect", "store", "alerts", "prometheus", "talk")}
    hopwatch = (sys.executable, "-m", "hopwatch.cli")

    def command(program: str, *more: str) -> tuple[str, ...]:
        return (*hopwatch, program, "--config", str(config), "--metrics", f"127.0.0.1:{ports[program]}", *more)

    def agent(agent_name: str, *more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        said = (*hopwatch, "agent", "--config", str(config), "--plant", "demo", "--agent", agent_name, "--spool", str(folder / agent_name))
        return running(*said, *more, log=folder / f"{agent_name}.log")

    with contextlib.ExitStack() as stack:
        stack.enter_context(scraped(folder, ports))
        for program, more in (("detect", ("-d", declaration)), ("store", ())):
            stack.enter_context(running(*command(program, *more), log=folder / f"{program}.log", HOPWATCH_POSTGRES=owner))
        base = f"http://127.0.0.1:{ports['prometheus']}"
        until(
            lambda: fetched(f"{base}/api/v1/query?query=sum(up)")["data"]["result"][0]["value"][1] == "2", "Prometheus scrapes both", folder
        )
        for name, capture in (("tap-demo", PLANT_DAY), ("tap-twin", PLANT_DAY), ("tap-slow", lossy(folder / "lossy.pcap"))):
            with agent(name, "-r", str(capture)) as process:
                assert process.wait(WAIT_S) == 0, (folder / f"{name}.log").read_text()
        with agent("tap-live", "-i", "lo", "--bpf", f"tcp port {ports['talk']}", "--duration", "2") as process:
            talk(ports["talk"], process)
        windows = "SELECT (SELECT count(*) FROM judgements) >= 40 AND (SELECT count(*) FROM heartbeats) > 0 AND EXISTS (SELECT FROM losses)"
        until(lambda: psycopg.connect(owner).execute(windows).fetchone() == (True,), "everything is judged and kept", folder)
        stack.enter_context(alerted(owner, folder, ports["alerts"]))
        grant(owner)
        # A rate needs two scrapes.
        counted = "min(count_over_time(hopwatch_windows_total[20s])) + 0 * count(hopwatch_delivery_alert_delay_seconds_bucket offset 2s)"
        reached = f"{base}/api/v1/query?query=" + urllib.parse.quote(counted)
        until(lambda: int(fetched(reached)["data"]["result"][0]["value"][1]) >= 3, "three scrapes of what was judged", folder)
        day = datetime(2026, 11, 21, 12, tzinfo=UTC)
        last = datetime.now(UTC) + timedelta(minutes=1)
        yield House(owner, as_reader(owner), base, *(f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (day, last)))


def scraped(folder: Path, ports: Mapping[str, int]) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    program = shutil.which("prometheus")
    assert program, "prometheus is missing; `make setup` installs Debian's"
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs: [{{targets: ['127.0.0.1:{ports[job]}']}}]\n" for job in ("detect", "store", "alerts")
    )
    config = folder / "prometheus.yml"
    rules = ROOT / "dashboards" / "prometheus" / "*.rules.yml"
    config.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{rules}']\nscrape_configs:\n{jobs}")
    return running(
        program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        log=folder / "prometheus.log",
    )  # fmt: skip


@contextlib.contextmanager
def alerted(owner: str, folder: Path, port: int) -> Iterator[None]:
    """The findings as alerts, one of them acknowledged and resolved by a person, and all of them delivered to a file."""
    settings = alerts_settings({"destinations": {"siem": {"kind": "file", "address": str(folder / "siem.jsonl")}}}, "test", {})
    with contextlib.closing(book(owner)) as kept:
        kept.letters = letters(settings)
        while kept.step(time.time_ns()):
            pass
        first = kept.alerts()[0]["alert_id"]
        for action, more in (("acknowledge", {}), ("resolve", {"disposition": "true-positive"})):
            at = time_text(time.time_ns())
            said = {"plant": "demo", "time": at, "person": PERSON, "action": action, "reason": "looked", "alert_id": first}
            kept.decide(Decision.model_validate(said | more | {"event_id": decision_id("demo", at, PERSON, action, first)}))
    delivery = Delivery(settings, partial(open_outbox, owner), lambda: pytest.fail("no broker is asked for"))
    delivery.start()
    try:
        with served(f"127.0.0.1:{port}", delivery.collector):
            yield
    finally:
        delivery.stop()


def grant(owner: str) -> None:
    """What the administrator does once: the role, its views, its password."""
    with psycopg.connect(owner, autocommit=True) as db:
        db.execute((ROOT / "dashboards" / "grafana" / "reader.sql").read_bytes())
        db.execute(b"ALTER ROLE hopwatch_grafana PASSWORD 'of this test alone'")


def as_reader(owner: str) -> str:
    return psycopg.conninfo.make_conninfo(owner, user="hopwatch_grafana", password="of this test alone")


@pytest.fixture(scope="module")
def chosen(house: House) -> dict[str, Chosen]:
    """What each dashboard's variables are set to when it is opened: `All` of everything, asked for as Grafana asks."""
    made = {}
    for dashboard in loaded():
        one = made[dashboard["uid"]] = Chosen(house.first, house.last)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                _, rows = house.rows(sql(variable["query"], one))
                values = [str(row[0]) for row in rows]
                assert values, f"{dashboard['uid']}: the variable {variable['name']} has nothing to choose from"
                one.values[variable["name"]] = variable.get("allValue") or values
            else:
                one.values[variable["name"]] = variable["query"]
    return made


EVERY = [target for dashboard in loaded() for target in targets(dashboard)]


@pytest.mark.parametrize("target", EVERY, ids=lambda target: f"{target.dashboard}-{target.panel}-{target.ref}")
def test_a_query_brings_what_its_panel_needs(target: Target, house: House, chosen: dict[str, Chosen]) -> None:
    if target.source == "prometheus":
        found = house.asked(prometheus(target.text, chosen[target.dashboard]), instant=target.instant)
        assert found, target.text
        values = [value for one in found for value in one.get("values", [one.get("value")])]
        assert values and all(value[1] not in ("", None) for value in values)
        return
    columns, rows = house.rows(sql(target.text, chosen[target.dashboard]))
    assert len(columns) == len(set(columns))
    if (target.dashboard, target.panel) not in EMPTY:
        assert rows, sql(target.text, chosen[target.dashboard])
    if target.series:
        # Long format: a time, a name, a number (Grafana, "Time series" of the SQL data sources).
        assert columns[:2] == ["time", "metric"] and len(columns) == 3
        assert all(isinstance(row[1], str) and row[2] is not None for row in rows)
    if target.kind == "nodeGraph":
        assert columns and (NODES if target.ref == "nodes" else EDGES) <= set(columns)
        assert any(name.startswith("detail__") for name in columns)
    if target.kind == "stat":
        assert len(rows) == 1 and rows[0][0] is not None


NARROWED = [
    (target, name) for target in EVERY for name in ("plant", "zone", "class", "account") if re.search(rf"\$\{{?{name}\b", target.text)
]


@pytest.mark.parametrize(
    ("target", "name"), NARROWED, ids=lambda one: one if isinstance(one, str) else f"{one.dashboard}-{one.panel}-{one.ref}"
)
def test_a_choice_of_what_nothing_is_of_shows_nothing(target: Target, name: str, house: House, chosen: dict[str, Chosen]) -> None:
    every = chosen[target.dashboard]
    none = replace(every, values=every.values | {name: ["nowhere"]})
    if target.source == "prometheus":
        found = house.asked(prometheus(target.text, none), instant=target.instant)
        # A number is 0 where there is nothing to count.
        assert all(float(value[1]) == 0 for one in found for value in one.get("values", [one.get("value")]))
        return
    _, rows = house.rows(sql(target.text, none))
    if target.kind == "stat":
        assert all(value == 0 for row in rows for value in row)
    elif (target.dashboard, target.panel) == ("hopwatch-movement", "Off-site register") and name != "plant":
        # The register names every declared hop that leaves the site, also where nothing of it is chosen.
        assert all(row[-1] is None for row in rows)
    elif (target.dashboard, target.panel) == ("hopwatch-soc", "Decisions"):
        assert name == "plant" or house.rows(sql(target.text, every))[1] != rows
    elif (target.dashboard, target.panel) == ("hopwatch-trust", "Coverage by conduit") and name in ("class", "account"):
        # So does this one every conduit.
        assert all(row[4] == 0 for row in rows)
    else:
        assert rows == []


def kept(house: House, chosen: dict[str, Chosen], dashboard: str, panel: str, **choice: str) -> list[dict[str, Any]]:  # Any: SQL values.
    (target,) = (one for one in EVERY if (one.dashboard, one.panel, one.kind) == (dashboard, panel, "table"))
    every = chosen[dashboard]
    columns, rows = house.rows(sql(target.text, replace(every, values=every.values | {name: [said] for name, said in choice.items()})))
    return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("dashboard", "panel", "key", "column", "name"),
    [
        ("hopwatch-soc", "Open alerts", "alert_id", "zones", "zone"),
        ("hopwatch-soc", "Open alerts", "alert_id", "classes", "class"),
        ("hopwatch-soc", "Open alerts", "alert_id", "account", "account"),
        ("hopwatch-declared", "Findings", "finding_id", "zones", "zone"),
        ("hopwatch-declared", "Findings", "finding_id", "classes", "class"),
        ("hopwatch-declared", "Findings", "finding_id", "account", "account"),
        ("hopwatch-declared", "Hits", "hop", "classes", "class"),
        ("hopwatch-movement", "By class and destination", "class", "class", "class"),
        ("hopwatch-movement", "Top accounts", "account", "account", "account"),
    ],
)
def test_each_choice_shows_the_rows_of_it_and_no_other(
    dashboard: str, panel: str, key: str, column: str, name: str, house: House, chosen: dict[str, Chosen]
) -> None:
    every = kept(house, chosen, dashboard, panel)
    values = {value for row in every for value in (row[column] or "~unknown").split(", ")}
    assert len(values) > 1, f"nothing to choose between: {values}"
    narrowed = False
    for value in values:
        of_it = kept(house, chosen, dashboard, panel, **{name: value})
        assert {row[key] for row in of_it} == {row[key] for row in every if value in (row[column] or "~unknown").split(", ")}, value
        narrowed |= len(of_it) < len(every)
    assert narrowed


def test_what_is_gathered_first_adds_up_to_every_window(house: House, chosen: dict[str, Chosen]) -> None:
    every = chosen["hopwatch-movement"]
    zone = str(house.rows("SELECT min(COALESCE(destination_zone, '~outside')) FROM movements")[1][0][0])
    for choice in (every, replace(every, values=every.values | {"zone": [zone]})):
        columns = "COALESCE(class, '~none'), COALESCE(destination_zone, '~outside'), row_count, byte_count, verdict"
        counted: dict[tuple[str, str], list[int]] = {}
        for name, to, rows, size, verdict in house.rows(sql(f"SELECT {columns} FROM movements WHERE {MOVED}", choice))[1]:
            sums = counted.setdefault((name, to), [0, 0, 0, 0])
            for place, amount in enumerate((rows, size, 1, verdict not in QUIET)):
                sums[place] += amount
        (target,) = (one for one in EVERY if one.panel == "By class and destination")
        assert {(row[0], row[1]): [int(one) for one in row[2:]] for row in house.rows(sql(target.text, choice))[1]} == counted
        (edges,) = (one for one in EVERY if one.kind == "nodeGraph" and one.ref == "edges")
        names, rows_of = house.rows(sql(edges.text, choice))
        assert sum(row[names.index("secondarystat")] for row in rows_of) == sum(sums[2] for sums in counted.values())
        assert sum(row[names.index("mainstat")] for row in rows_of) == sum(sums[1] for sums in counted.values())


def test_an_alert_is_of_the_zones_and_classes_of_its_windows(house: House, chosen: dict[str, Chosen]) -> None:
    stolen = [one for one in kept(house, chosen, "hopwatch-soc", "Open alerts") if one["destination"] == "192.0.2.66"]
    assert stolen and all("~outside" in one["zones"].split(", ") for one in stolen)
    with psycopg.connect(house.owner) as db:
        for one in kept(house, chosen, "hopwatch-declared", "Findings"):
            said = db.execute(
                "SELECT event::json #> '{observed,classes}' FROM findings WHERE finding_id = %s", (one["finding_id"],)
            ).fetchone()
            assert said and (said[0] or ["~none"]) == one["classes"].split(", ")
            zones = db.execute(
                "SELECT source_zone, destination_zone FROM grafana.movements WHERE finding_id = %s", (one["finding_id"],)
            ).fetchall()
            if zones:
                assert {zone or "~outside" for pair in zones for zone in pair} == set(one["zones"].split(", "))


def test_every_edge_of_the_graph_has_both_ends_and_nodes_are_few(house: House, chosen: dict[str, Chosen]) -> None:
    (nodes,), (edges,) = (
        [house.rows(sql(target.text, chosen[target.dashboard])) for target in EVERY if target.kind == "nodeGraph" and target.ref == ref]
        for ref in ("nodes", "edges")
    )
    ids = [dict(zip(nodes[0], row, strict=True))["id"] for row in nodes[1]]
    assert len(ids) == len(set(ids)) <= NODES_MAX
    found = [dict(zip(edges[0], row, strict=True)) for row in edges[1]]
    assert {end for edge in found for end in (edge["source"], edge["target"])} <= set(ids)
    assert len({edge["id"] for edge in found}) == len(found)
    assert {"site-ops/mes-db", "idmz/mw", "~outside/192.0.2.66"} <= set(ids)
    red = {(edge["source"], edge["target"]) for edge in found if edge["color"] == "#e02f44"}
    assert ("idmz/mw", "~outside/192.0.2.66") in red and ("site-ops/mes-db", "analytics/10.40.9.77") in red
    assert all(1 <= edge["thickness"] <= 10 for edge in found)


def test_what_moved_is_as_much_as_one_tap_saw_and_its_twin_adds_nothing(house: House) -> None:
    with psycopg.connect(house.owner) as db:
        seen = dict(db.execute("SELECT agent, sum(row_count) FROM flows GROUP BY 1").fetchall())
        counted = dict(
            db.execute("SELECT f.agent, sum(m.row_count) FROM grafana.movements m JOIN flows f USING (event_id) GROUP BY 1").fetchall()
        )
    assert seen["tap-demo"] == seen["tap-twin"] == counted["tap-demo"] > 0
    assert counted["tap-twin"] == 0


def test_the_reader_sees_views_only_changes_nothing_and_reads_no_name(house: House) -> None:
    with psycopg.connect(house.owner) as db:
        tables = [name for (name,) in db.execute(f"{NAMED} 'public'::regnamespace AND relkind IN ('r', 'p', 'v')".encode())]
        views = [name for (name,) in db.execute(f"{NAMED} 'grafana'::regnamespace".encode())]
    assert {"flows", "detector_snapshots", "judgements"} <= set(tables) and {
        "movements",
        "findings",
        "declared_hops",
        "alerts",
        "decisions",
    } <= set(views)
    for table in tables:
        with psycopg.connect(house.reader) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(f"SELECT * FROM public.{table} LIMIT 1".encode())
    for wrong in ("INSERT INTO declared_plants VALUES ('x', 'x', 1, true, now())", "CREATE TABLE mine (one int)", "DELETE FROM findings"):
        with psycopg.connect(house.reader) as db, pytest.raises(psycopg.Error):
            db.execute("SET default_transaction_read_only = off")
            db.commit()
            db.execute(wrong.encode())
    everything = str([house.rows(f"SELECT * FROM {view}") for view in views])
    assert PERSON not in everything and "a.ruiz" not in everything and "svc_mes" in everything
