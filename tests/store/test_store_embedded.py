"""The store recognises what it has, finds it by prefix and query, stays under its bound, and names no person."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from hopwatch.store import IdUnknown, JudgedFlow, Query, StoreError, StoreFull
from hopwatch.store.embedded import EARLIER_MAX, EmbeddedStore
from hopwatch.store.pseudonyms import key_file

Json = dict[str, Any]  # Any: one JSON object.


def flow(number: int = 1, **fields: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "flow", "event_id": f"{number:032x}", "plant": "north", "agent": "tap", "connection": "c" * 32,
        "flow_id": "4a1d" + "0" * 28,
        "sequence": number, "start": f"2026-04-07T10:42:{number % 60:02d}Z", "end": f"2026-04-07T10:42:{number % 60:02d}.5Z",
        "source": {"address": "10.20.1.21", "port": 5432, "names": []},
        "destination": {"address": "10.40.9.77", "port": 51512, "names": []},
        "account": "svc_mw", "operation": "select", "protocol": "postgresql", "rows": 100, "bytes": 1000, "depth": "decoded",
    } | fields  # fmt: skip


def finding(**fields: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "finding", "event_id": "e" * 32, "finding_id": "F-7c1e9a02", "verdict": "undeclared-hop", "severity": "high",
        "plant": "north",
        "first_seen": "2026-04-07T10:42:01Z", "last_seen": "2026-04-07T10:42:02Z", "windows": 1, "who": "svc_mw", "source": "mes-db",
        "destination": "10.40.9.77", "observed": {"rows": 100, "bytes": 1000, "objects": ["mes.genealogy"]}, "evidence": ["1" * 32],
        "differences": [{"question": "who", "declared": "svc_mw at mw", "observed": "svc_mw at 10.40.9.77"}],
    } | fields  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store.db", is_clear=lambda account: account == "svc_mw")


def test_flow_added_twice_is_one_flow(store: EmbeddedStore) -> None:
    assert store.add(flows=[JudgedFlow(flow(1)), JudgedFlow(flow(2))]) == 2
    assert store.add(flows=[JudgedFlow(flow(2)), JudgedFlow(flow(3))]) == 1
    assert [kept["sequence"] for kept in store.flows(Query())] == [3, 2, 1]


def edition(version: int) -> Json:
    return {"plant": "north", "version": version, "commit": None, "signed": False, "edition": f"e{version}"}


def test_flow_judged_by_another_declaration_shows_the_later_verdict_and_keeps_the_earlier(store: EmbeddedStore) -> None:
    differing = {"question": "who", "declared": "svc_mw", "observed": "h.keller"}
    first = {"verdict": "undeclared-hop", "severity": "critical", "finding_id": "F-7c1e9a02", "declaration": edition(14)}
    store.add(flows=[JudgedFlow(flow(1), differences=(differing,), **first), JudgedFlow(flow(2), **first)])
    later = {"verdict": "declared", "hop": "extract", "declaration": edition(15)}
    # Of a batch some are known and some are new; a flow judged once more by the same declaration stays as it is.
    again = [JudgedFlow(flow(1), **later), JudgedFlow(flow(2), **first | {"verdict": "x"}), JudgedFlow(flow(3), **later)]
    assert store.add(flows=again) == 1
    kept = {one["sequence"]: one["judgement"] for one in store.flows(Query())}
    assert (kept[1]["verdict"], kept[1]["hop"], kept[1]["declaration"]["version"]) == ("declared", "extract", 15)
    assert kept[1]["differences"] == []
    assert kept[1]["earlier"] == [{name: first.get(name) for name in ("verdict", "severity", "hop", "finding_id", "declaration")}]
    assert (kept[2]["verdict"], kept[3]["verdict"]) == ("undeclared-hop", "declared")
    assert "earlier" not in kept[2] and "earlier" not in kept[3]
    assert [one["sequence"] for one in store.flows(Query(verdict="declared"))] == [3, 1]


def test_earlier_verdicts_have_a_bound_and_are_counted(store: EmbeddedStore) -> None:
    for version in range(EARLIER_MAX + 6):
        store.add(flows=[JudgedFlow(flow(1), verdict=f"v{version}", declaration=edition(version))])
    (kept,) = store.flows(Query())
    assert (kept["judgement"]["verdict"], kept["judgement"]["earlier_total"]) == (f"v{EARLIER_MAX + 5}", EARLIER_MAX + 5)
    assert [one["verdict"] for one in kept["judgement"]["earlier"]] == [f"v{version}" for version in range(5, EARLIER_MAX + 5)]


def test_fields_nobody_knows_are_kept(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1, invented={"x": [1]}), verdict="declared", hop="extract")])
    (kept,) = store.flows(Query())
    assert kept["invented"] == {"x": [1]}
    assert kept["judgement"]["hop"] == "extract"


def test_finding_counts_distinct_windows_however_often_they_are_read(store: EmbeddedStore) -> None:
    for _ in range(2):  # The same capture twice; each run counts from one.
        flows = [JudgedFlow(flow(number), finding_id="F-7c1e9a02", verdict="undeclared-hop") for number in (1, 2, 3)]
        store.add(flows=flows, findings=[finding(windows=number) for number in (1, 2, 3)])
    (kept,) = store.findings(Query())
    assert kept["windows"] == 3
    assert kept["observed"]["rows"] == 300


def test_second_run_adds_its_windows_to_the_finding_and_keeps_its_first_sight(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1), finding_id="F-7c1e9a02")], findings=[finding(severity="critical")])
    later = finding(first_seen="2026-04-08T01:00:00Z", last_seen="2026-04-08T01:00:01Z", evidence=["2" * 32])
    store.add(flows=[JudgedFlow(flow(2), finding_id="F-7c1e9a02")], findings=[later])
    (kept,) = store.findings(Query())
    assert (kept["first_seen"], kept["last_seen"]) == ("2026-04-07T10:42:01Z", "2026-04-08T01:00:01Z")
    assert (kept["windows"], kept["severity"], kept["evidence"]) == (2, "critical", ["1" * 32, "2" * 32])


def test_person_appears_in_no_file_of_the_store(store: EmbeddedStore, tmp_path: Path) -> None:
    said = flow(
        1, account="h.keller", role="h.keller", on_behalf_of={"name": "m.rossi", "by": "application_name"}, application="psql - h.keller"
    )
    created = flow(2, operation="admin", objects=[{"names": ["account:j.doe"], "columns": ["create", "grant:l.bianchi"]}])
    given = {"question": "who", "declared": "no account of this name", "observed": "j.doe: created, given l.bianchi"}
    differing = {"question": "who", "declared": "svc_mw at mw", "observed": "h.keller at 10.40.9.77"}
    raised = finding(who="h.keller", differences=[differing])
    made = finding(finding_id="F-00000002", who="svc_mw", differences=[given], observed={"objects": ["account:j.doe", "account:l.bianchi"]})
    store.add(flows=[JudgedFlow(said, differences=(differing,)), JudgedFlow(created, differences=(given,))], findings=[raised, made])
    kept = store.flows(Query(account="h.keller"))
    store.close()
    for file in tmp_path.iterdir():
        for name in (b"h.keller", b"m.rossi", b"j.doe", b"l.bianchi"):
            assert name not in file.read_bytes(), file
    assert kept[0]["account"].startswith("person:")
    assert kept[0]["application"] == f"psql - {kept[0]['account']}"


def test_the_address_for_which_a_pool_works_is_no_person(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1, account="h.keller", on_behalf_of="10.30.0.20:41156"))])
    (kept,) = store.flows(Query())
    assert (kept["on_behalf_of"], kept["account"].partition(":")[0]) == ("10.30.0.20:41156", "person")


def test_service_account_stays_readable(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1))], findings=[finding()])
    assert store.flows(Query())[0]["account"] == "svc_mw"
    assert store.findings(Query())[0]["differences"][0]["observed"] == "svc_mw at 10.40.9.77"


def test_pseudonym_is_the_same_after_reopening_and_another_under_another_key(tmp_path: Path) -> None:
    seen = []
    for name, key in (("a", "k1"), ("a", "k1"), ("b", "k2")):
        store = EmbeddedStore(tmp_path / name, key_path=tmp_path / key)
        store.add(flows=[JudgedFlow(flow(1, account="h.keller"))])
        seen.append(store.flows(Query())[0]["account"])
        store.close()
    assert seen[0] == seen[1] != seen[2]


def test_key_is_made_for_the_owner_only_and_refused_when_others_may_read_it(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path / "store.db").close()
    key = tmp_path / "store.db.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(StoreError, match=r"store\.db\.key: others may read this key"):
        EmbeddedStore(tmp_path / "store.db")


def test_programs_that_begin_at_once_have_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, others = tmp_path / "key", []
    draw = secrets.token_hex

    def drawn(count: int) -> str:
        monkeypatch.setattr(secrets, "token_hex", draw)
        others.append(key_file(path))
        return draw(count)

    monkeypatch.setattr(secrets, "token_hex", drawn)
    assert [key_file(path)] == others
    assert (list(tmp_path.iterdir()), path.stat().st_mode & 0o777) == ([path], 0o600)


def test_store_without_its_key_is_refused_instead_of_getting_another(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path / "store.db").close()
    (tmp_path / "store.db.key").unlink()
    with pytest.raises(StoreError, match=r"key of .* is missing"):
        EmbeddedStore(tmp_path / "store.db")


def test_ids_are_found_by_eight_characters_and_not_by_seven(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1, event_id="9f2c5e01" + "0" * 24))], findings=[finding()])
    assert store.find("9f2c5e01")["kind"] == "flow"
    assert store.find("4a1d0000")["sequence"] == 1
    assert store.find("F-7c1e9a02") == store.find("7c1e9a02")
    with pytest.raises(IdUnknown, match="8 or more"):
        store.find("9f2c5e0")
    with pytest.raises(IdUnknown, match="nothing in"):
        store.find("ffffffff")


def test_prefix_of_several_ids_names_them(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1, event_id="9f2c5e01" + "0" * 24)), JudgedFlow(flow(2, event_id="9f2c5e01" + "1" * 24))])
    with pytest.raises(IdUnknown, match="several ids"):
        store.find("9f2c5e01")


def test_query_limits_by_every_field(store: EmbeddedStore) -> None:
    store.add(flows=[JudgedFlow(flow(1), verdict="declared"), JudgedFlow(flow(2, account="x"), verdict="undeclared-hop")])
    assert [kept["sequence"] for kept in store.flows(Query(verdict="declared"))] == [1]
    assert [kept["sequence"] for kept in store.flows(Query(account="x"))] == [2]
    assert [kept["sequence"] for kept in store.flows(Query(since="2026-04-07T10:42:02Z"))] == [2]
    assert [kept["sequence"] for kept in store.flows(Query(until="2026-04-07T12:42:02+02:00"))] == [1]
    assert len(store.flows(Query(address="10.40.9.77", limit=1))) == 1
    assert store.flows(Query(address="10.40.9.78")) == []


def test_full_store_refuses_the_batch_whole(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store.db", size_bytes_max=256 << 10)
    batch = 0
    with pytest.raises(StoreFull, match=r"store\.db: no room"):
        for batch in range(100):
            store.add(flows=[JudgedFlow(flow(batch * 100 + number)) for number in range(100)])
    assert len(store.flows(Query(limit=100_000))) == batch * 100


def test_losses_and_heartbeats_are_kept_once(store: EmbeddedStore) -> None:
    loss = {
        "kind": "loss",
        "event_id": "1" * 32,
        "plant": "north",
        "agent": "tap",
        "stage": "kernel",
        "start": "2026-04-07T10:00:00Z",
        "end": "2026-04-07T10:00:01Z",
    }
    beat = {"kind": "heartbeat", "event_id": "2" * 32, "plant": "north", "agent": "tap", "time": "2026-04-07T10:00:00Z"}
    assert store.add(losses=[loss], heartbeats=[beat]) == 2
    assert store.add(losses=[loss], heartbeats=[beat]) == 0
    assert store.losses(Query()) == [loss]


def test_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db.key").touch(mode=0o600)
    (tmp_path / "store.db.key").write_text("00" * 32)
    (tmp_path / "store.db").write_text(json.dumps({"no": "database"}) * 100)
    with pytest.raises(StoreError, match="not a hopwatch store"):
        EmbeddedStore(tmp_path / "store.db")
