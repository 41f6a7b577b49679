"""A session that a tap and a feed both saw is summed up once, wherever sums are read: both stores, and the panels of Grafana."""

import json
import secrets
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dashboards.console.looking import opened
from detectors.judgement import Judgement
from hopwatch.declared.rows import rows as declared_rows
from hopwatch.detect import judged_of
from hopwatch.events import Flow, dump
from hopwatch.store import Query, Reader
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.postgresql import Hiding, PostgresStore, Said
from hopwatch.store.progress import Progress, Step
from hopwatch.store.reader import PostgresReader
from hopwatch.watch import stored
from tests.detectors.north import architecture, detector, end, extract, objects
from tests.integration.panels import Chosen, loaded, sql, targets

ROOT = Path(__file__).parents[2]
DAY = ("north", "2026-04-07T00:00:00Z", "2026-04-08T00:00:00Z")
ROWS, TAPPED, GUESSED = 300, 27_000, 30_000
Kept = Callable[[list[Judgement]], Reader]


def session(*, undeclared: bool = False) -> list[Flow]:
    """Three windows of a tap, the server's log of the same, and at the end what another sensor makes of its packets."""
    client = {"destination": end(("10.40.9.77", 50_777)), "account": "svc_report"} if undeclared else {}
    part = [objects("quality.inspection", columns=("lot", "result"), rows=100, bytes=9_000)]
    tap = [extract(connection="c", n=n, at=f"2026-04-07T00:00:0{n}Z", objects=part, **client) for n in range(3)]
    log = extract(
        connection="c", at="2026-04-07T00:00:02Z", agent="mes-db-log", seen_by="server-log", depth="server-log", **client,
        objects=[objects("quality.inspection", columns=("lot", "result"), rows=300)], key="log",
    )  # fmt: skip
    sensor = extract(
        connection="c", at="2026-04-07T00:00:03Z", agent="suricata-1", seen_by="sensor", depth="sizes", operation="transfer", bytes=GUESSED,
        objects=[], completeness={"estimated": True}, key="sensor", **{"account": None} | client,
    )  # fmt: skip
    return [*tap, log, sensor]


def judged(flows: list[Flow]) -> list[Judgement]:
    watching = detector()
    return [watching.observe(flow)[0] for flow in flows]


@pytest.fixture(params=["file", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    def file(said: list[Judgement]) -> Reader:
        store = EmbeddedStore(tmp_path / "store.db", is_clear=lambda account: True)
        request.addfinalizer(store.close)
        for one in said:
            store.add(flows=[stored(one)], findings=[] if one.finding is None else [one.finding.model_dump()])
        return store

    def scale(said: list[Judgement]) -> Reader:
        address = request.getfixturevalue("postgres")
        key = secrets.token_bytes(32)
        hiding = Hiding(key)
        hiding.declare("north", lambda account: True)
        today = date(2026, 4, 8)
        store = PostgresStore(address, hiding, today=lambda: today)
        store.add([Said(dump(one.flow), json.loads(dump(one.flow))) for one in said])
        progress = Progress(address, "detect", key, hiding, today=lambda: today)
        plant = architecture()
        progress.declare("north", "e", declared_rows(plant, "e"))
        step = Step(0, progress.claim(0, "me").epoch, {}, {}, judged=[judged_of(one) for one in said])
        assert not progress.keep([step]).fenced
        reader = PostgresReader(address)
        for one in (store, progress, reader):
            request.addfinalizer(one.close)
        return reader

    return file if request.param == "file" else scale


@pytest.mark.parametrize("order", ["tap first", "feeds first"])
def test_movements_and_depths_add_up_to_the_session(kept: Kept, order: str) -> None:
    flows = session()
    reader = kept(judged(flows if order == "tap first" else flows[::-1]))
    moved = reader.movements(*DAY)
    assert (sum(one.rows for one in moved), sum(one.bytes for one in moved)) == (ROWS, TAPPED)
    assert sum(one.windows for one in moved) == len(flows)
    assert sum(one.bytes for one in reader.depths(*DAY)) == TAPPED


@pytest.mark.parametrize("order", ["tap first", "feeds first"])
def test_a_finding_in_a_file_is_of_the_session_whichever_view_came_first(tmp_path: Path, order: str) -> None:
    flows = session(undeclared=True)
    with_store = EmbeddedStore(tmp_path / "store.db", is_clear=lambda account: True)
    said = judged(flows if order == "tap first" else flows[::-1])
    for one in said:
        assert one.finding is not None
        with_store.add(flows=[stored(one)], findings=[one.finding.model_dump()])
    findings = with_store.findings(Query())
    assert sum(one["observed"]["rows"] for one in findings) == ROWS
    assert sum(one["observed"]["bytes"] for one in findings) == TAPPED
    with_store.close()


def test_the_console_opens_a_sessions_objects_once() -> None:
    found = opened([json.loads(dump(flow)) for flow in session()])
    assert [(name, counts["rows"], counts["bytes"]) for name, counts in found.objects] == [("quality.inspection", ROWS, TAPPED)]
    assert len(found.agents) == 3


@pytest.mark.parametrize("kept", ["postgresql"], indirect=True)
def test_every_panel_that_sums_what_moved_says_the_session_once(kept: Kept, postgres: str) -> None:
    kept(judged(session()))
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute((ROOT / "dashboards/grafana/reader.sql").read_bytes())
        db.execute(b"SET search_path = grafana")
        chosen = Chosen("2026-04-06T23:59:00Z", "2026-04-07T23:59:59Z")
        (dashboard,) = [one for one in loaded() if one["uid"] == "hopwatch-movement"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                values = [str(row[0]) for row in db.execute(sql(variable["query"], chosen).encode()).fetchall()]
                chosen.values[variable["name"]] = ["~all"] if variable["name"] == "account" else values
        summed: dict[str, dict[str, int]] = {}
        for target in targets(dashboard):
            if "sql" in target.source:
                done = db.execute(sql(target.text, chosen).encode())
                names = [column.name for column in done.description or ()]
                rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in done.fetchall()]  # Any: SQL values
                figures = {"rows", "bytes", "mainstat", "detail__rows", "detail__bytes", "value"} & set(names)
                summed[f"{target.panel}/{target.ref}"] = {name: int(sum(row[name] or 0 for row in rows)) for name in figures}
    assert summed["By class and destination/A"] == summed["Top accounts/A"] == {"rows": ROWS, "bytes": TAPPED}
    assert summed["Off-site register/A"] == {"rows": 0, "bytes": 0}
    edges = next(one for one in summed.values() if "detail__rows" in one)
    nodes = next(one for one in summed.values() if "mainstat" in one and "detail__rows" not in one)
    assert (edges["mainstat"], edges["detail__rows"], edges["detail__bytes"]) == (TAPPED, ROWS, TAPPED)
    assert nodes["mainstat"] == 2 * TAPPED
