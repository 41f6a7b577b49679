"""Whoever reads a store asks the same of a file and of PostgreSQL, and changes neither."""

import json
import secrets
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hopwatch.cli import main
from hopwatch.store import IdUnknown, JudgedFlow, Query, Reader, StoreError
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.postgresql import Hiding, PostgresStore, Said
from hopwatch.store.reader import PostgresReader, reader

Json = dict[str, Any]  # Any: one JSON object.
KEY = secrets.token_hex(32)


def flow(number: int, **fields: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "flow", "event_id": f"{number:032x}", "plant": "north", "agent": "tap", "connection": "c" * 32,
        "flow_id": f"4a1d{number % 3:028x}", "sequence": number, "start": f"2026-04-07T10:{number // 60:02d}:{number % 60:02d}Z",
        "end": f"2026-04-07T10:{number // 60:02d}:{number % 60:02d}.5Z", "source": {"address": "10.20.1.21", "port": 5432, "names": []},
        "destination": {"address": "10.40.9.77", "port": 51512, "names": []}, "account": "svc_mw", "operation": "select",
        "protocol": "postgresql", "rows": 100, "bytes": 1000, "depth": "decoded",
    } | fields  # fmt: skip


def finding(**fields: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "finding", "event_id": "e" * 32, "finding_id": "F-7c1e9a02", "verdict": "undeclared-hop", "severity": "high",
        "plant": "north", "first_seen": "2026-04-07T10:42:01Z", "last_seen": "2026-04-07T10:42:02Z", "windows": 1, "who": "h.keller",
        "source": "mes-db", "destination": "10.40.9.77", "evidence": ["1" * 32],
    } | fields  # fmt: skip


LOSS = {
    "kind": "loss", "event_id": "1055" + "0" * 28, "plant": "north", "agent": "tap", "stage": "kernel", "why": "ring full",
    "start": "2026-04-07T10:00:02.5Z", "end": "2026-04-07T10:00:03Z",
}  # fmt: skip
BEAT = {"kind": "heartbeat", "event_id": "b" * 32, "plant": "north", "agent": "tap", "time": "2026-04-07T10:00:00.5Z"}

FLOWS = [*(flow(number) for number in (5, 1, 4, 2)), flow(3, account="h.keller", invented=[1]), flow(6, plant="south")]


@pytest.fixture(params=["file", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reader]:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    if request.param == "file":
        address = str(tmp_path / "store.db")
        embedded = EmbeddedStore(address, key_path=key, is_clear=lambda account: account == "svc_mw")
        embedded.add(flows=[JudgedFlow(one) for one in FLOWS], findings=[finding()], losses=[LOSS], heartbeats=[BEAT])
        embedded.close()
    else:
        address = request.getfixturevalue("postgres")
        hiding = Hiding(bytes.fromhex(KEY))
        hiding.declare("north", lambda account: account == "svc_mw")
        scale = PostgresStore(address, hiding, today=lambda: date(2026, 4, 8))
        scale.add([Said(json.dumps(one).encode(), one) for one in (*FLOWS, finding(), LOSS, BEAT)])
        scale.close()
    opened = reader(address, key)
    yield opened
    opened.close()


def sequences(events: Any) -> list[int]:  # Any: an iterable of JSON objects.
    return [event["sequence"] for event in events]


def test_history_is_in_the_order_of_time_between_two_times_and_of_one_plant(store: Reader) -> None:
    assert sequences(store.history()) == [1, 2, 3, 4, 5, 6]
    assert sequences(store.history("2026-04-07T10:00:02Z", "2026-04-07T10:00:05Z")) == [2, 3, 4]
    assert sequences(store.history(plant="south")) == [6]
    assert list(store.history("2027-01-01T00:00:00Z")) == []


def test_history_of_several_kinds_is_one_stream(store: Reader) -> None:
    told = [event["kind"] for event in store.history(until="2026-04-07T10:00:04Z", kinds=("flow", "loss", "heartbeat"))]
    assert told == ["heartbeat", "flow", "flow", "loss", "flow"]


def test_a_history_that_is_not_read_to_its_end_lets_the_store_answer_on(store: Reader) -> None:
    history = store.history(kinds=("flow", "loss"))
    assert next(history)["sequence"] == 1
    assert len(store.findings(Query())) == 1
    assert next(history)["sequence"] == 2
    del history
    assert sequences(store.history())[-1] == 6


def test_lists_are_newest_first_and_asked_by_account_address_and_time(store: Reader) -> None:
    assert sequences(store.flows(Query())) == [6, 5, 4, 3, 2, 1]
    (kept,) = store.flows(Query(account="h.keller"))
    assert kept["account"].startswith("person:") and kept["invented"] == [1]
    assert sequences(store.flows(Query(since="2026-04-07T10:00:04Z", until="2026-04-07T10:00:06Z"))) == [5, 4]
    assert store.flows(Query(address="10.20.1.22")) == []
    assert [found["finding_id"] for found in store.findings(Query(account="h.keller"))] == ["F-7c1e9a02"]
    assert [lost["why"] for lost in store.losses(Query(plant="north"))] == ["ring full"]


def test_one_record_is_found_by_the_start_of_its_id(store: Reader) -> None:
    assert store.find("F-7c1e9a02")["kind"] == "finding"
    assert store.find("1055000000")["kind"] == "loss"
    assert store.find(f"{4:032x}")["sequence"] == 4
    with pytest.raises(IdUnknown, match="several ids start so"):
        store.find("0" * 24)
    with pytest.raises(IdUnknown, match="nothing in"):
        store.find("abcdef12")


def test_reading_makes_nothing_and_needs_the_right_to_select_only(postgres: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no hopwatch store"):
        reader(postgres)
    PostgresStore(postgres, Hiding(bytes(32))).close()
    with psycopg.connect(postgres, autocommit=True) as db:
        role, password = f"r{secrets.token_hex(4)}", secrets.token_hex(8)
        db.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
    opened = PostgresReader(psycopg.conninfo.make_conninfo(postgres, user=role, password=password))
    assert list(opened.history(kinds=("flow", "loss", "heartbeat"))) == []
    with pytest.raises(StoreError, match="with its key only"):
        opened.flows(Query(account="h.keller"))
    assert password not in opened.name
    opened.close()
    with pytest.raises(StoreError, match="no such key"):
        reader(postgres, tmp_path / "nokey")


def test_the_commands_that_read_answer_from_postgresql(
    postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scale = PostgresStore(postgres, Hiding(bytes(32)), today=lambda: date(2026, 4, 8))
    scale.add([Said(json.dumps(one).encode(), one) for one in (*FLOWS, finding())])
    scale.close()
    assert main(["flows", "--store", postgres, "--json", "--limit", "2"]) == 0
    assert [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()] == [6, 5]
    monkeypatch.setenv("HOPWATCH_STORE", postgres)
    assert main(["findings"]) == 1
    assert "finding F-7c1e9a02" in capsys.readouterr().out
    assert main(["explain", f"{4:032x}"]) == 0
    assert "window 4" in capsys.readouterr().out
    assert main(["watch", "-d", "plant.yaml", "-r", "x.pcap"]) == 2
    assert "its store is a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


DAY = ("north", "2026-04-07T00:00:00Z", "2026-04-08T00:00:00Z")


def test_windows_that_differ_in_time_and_amount_only_are_one_movement(store: Reader) -> None:
    moved = store.movements(*DAY)
    assert [(one.account == "svc_mw", one.windows, one.rows, one.bytes) for one in moved] == [(True, 4, 400, 4000), (False, 1, 100, 1000)]
    assert moved[0].first.startswith("2026-04-07T10:00:01") and moved[0].last.startswith("2026-04-07T10:00:05.5")
    assert "h.keller" not in str(moved)
    assert store.movements("north", "2026-04-07T10:00:05Z", "2026-04-07T10:00:06Z")[0].windows == 1
    assert store.newest("north") == "2026-04-07T10:00:05.000000000Z" and store.newest("east") is None


def test_the_moment_of_a_store_is_the_same_until_somebody_writes(store: Reader, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    before = store.moment()
    store.movements(*DAY)
    assert store.moment() == before
    if isinstance(store, EmbeddedStore):
        writer = EmbeddedStore(tmp_path / "store.db", key_path=tmp_path / "key", is_clear=lambda account: True)
        writer.add(losses=[LOSS | {"event_id": "2" * 32}])
        writer.close()
    else:
        with psycopg.connect(request.getfixturevalue("postgres")) as db:
            db.execute("DELETE FROM losses")
    assert store.moment() != before


def test_depths_and_heartbeats_are_summed_up_for_the_plant_alone(store: Reader) -> None:
    (depth,) = store.depths(*DAY)
    assert (depth.agent, depth.depth, depth.state, depth.windows, depth.bytes) == ("tap", "decoded", "complete", 5, 5000)
    assert [beat["agent"] for beat in store.heartbeats("north", DAY[1])] == ["tap"]
    assert store.heartbeats("north", "2026-04-07T11:00:00Z") == [] == store.heartbeats("south", DAY[1])


def test_windows_between_two_addresses_are_those_of_the_hop_and_verdict_asked_for(store: Reader) -> None:
    ends = [("10.20.1.21", "10.40.9.77")]
    assert sequences(store.between(*DAY, ends, [(None, None)], 3)) == [5, 4, 3]
    assert store.between(*DAY, ends, [("extract-quality", "declared")], 3) == []
    assert store.between(*DAY, [("10.40.9.77", "10.20.1.21")], [(None, None)], 3) == [] == store.between(*DAY, [], [(None, None)], 3)
