"""What Zeek and Suricata said of connections becomes the flows that a tap would have told, as far as they saw it.

Zeek's lines are those of its documentation and its own tests' baselines (BSD licence; addresses as there). Suricata's are what 7.0.10
wrote of examples/plant-day.pcap.gz, without payloads.
"""

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.sensor_log import SensorLog, matches
from collectors.suricata import Suricata
from collectors.zeek import Zeek
from hopwatch.events import Flow, parse

ROOT = Path(__file__).parents[2]
DAY = ROOT / "tests/data/suricata/plant-day.eve.json.gz"
LEDGER = json.loads((ROOT / "examples/plant-day.expected.json").read_text())["ledger"]

MYSQL = """\
#separator \\x09
#set_separator\t,
#empty_field\t(empty)
#unset_field\t-
#path\tmysql
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tcmd\targ\tsuccess\trows\tresponse
#types\ttime\tstring\taddr\tport\taddr\tport\tstring\tstring\tbool\tcount\tstring
1362452327.618353\tCsRx2w45OKnoww6xl4\t192.168.1.3\t55845\t192.168.1.8\t3306\tlogin\troot_nope\tF\t-\tAccess denied for user
1362452372.452858\tChe1bq3i2rO3KD1Syg\t192.168.1.3\t55865\t192.168.1.8\t3306\tlogin\troot\tT\t0\t-
1362452372.454995\tChe1bq3i2rO3KD1Syg\t192.168.1.3\t55865\t192.168.1.8\t3306\tquery\tselect @@version_comment limit 1\tT\t1\t-
1362452372.991997\tChe1bq3i2rO3KD1Syg\t192.168.1.3\t55865\t192.168.1.8\t3306\tquit\t(empty)\t-\t-\t-
"""
OPCUA_CONN = """\
#separator \\x09
#path\tconn
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\thistory\tmissed_bytes
1579702060.581559\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\ttcp\topcua-binary\t1.708381\t3523\t3660\tSF\tShAaDdFf\t0
"""
OPCUA = """\
#path\topcua-binary
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tmsg_type\tis_final\tendpoint_url\tsec_policy_uri\tidentifier_str
1579702060.581559\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tHEL\tF\topc.tcp://localhost:4840\t-\t-
1579702060.684416\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tOPN\tF\t-\thttp://opcfoundation.org/UA/SecurityPolicy#None\tOpenSecureChannelRequest
1579702061.559592\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tMSG\tF\t-\t-\tReadRequest
1579702061.610073\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tMSG\tF\t-\t-\tReadResponse
1579702061.610203\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tMSG\tF\t-\t-\tWriteRequest
1579702061.660937\tC8zB9ZNUKWBHKj7x1\t::1\t56322\t::1\t4840\tMSG\tF\t-\t-\tWriteResponse
"""
WHO = {"id.orig_h": "127.0.0.1", "id.orig_p": 40190, "id.resp_h": "127.0.0.1", "id.resp_p": 5432}
WHOM = WHO | {"user": "postgres", "database": "postgres", "application_name": "psql"}


def as_json(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(kind: type[SensorLog], folder: Path, pattern: str = "*.log", state: str = "place") -> SensorLog:
    return kind.of(Told.of(f"{kind.KIND}:s-1={folder / pattern}", "a"), "north", folder / state, now_ns=lambda: 0)  # type: ignore[attr-defined]  # every kind has it


def flows(log: SensorLog) -> list[Flow]:
    lines = [line for batch in log.batches(lambda: False, follow=False) for line in batch]
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def of(told: Sequence[Flow], operation: str) -> list[Flow]:
    return [flow for flow in told if flow.operation == operation]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> list[Flow]:
    folder = tmp_path_factory.mktemp("suricata")
    (folder / "eve.log").write_bytes(gzip.decompress(DAY.read_bytes()))
    return flows(read(Suricata, folder))


# Zeek


def test_zeeks_tab_separated_logs_name_the_account_and_what_was_refused(tmp_path: Path) -> None:
    (tmp_path / "mysql.log").write_text(MYSQL)
    told = flows(read(Zeek, tmp_path))
    assert [(flow.account, flow.messages) for flow in of(told, "refused")] == [("root_nope", 1)]
    (select,) = of(told, "select")
    assert (select.account, select.account_from, select.protocol, select.seen_by, select.depth) == (
        "root", "startup", "mysql", "sensor", "decoded",
    )  # fmt: skip
    # What Zeek calls rows of a SELECT on MySQL is not their number.
    assert (select.rows, select.completeness.state) == (0, "lossy")


def test_rows_that_zeek_saw_on_postgresql_are_counted_and_those_it_did_not_see_are_said_to_be_unknown(tmp_path: Path) -> None:
    selected = {"frontend": "simple_query", "frontend_arg": "SELECT * from t where k = 'hunter2';", "success": True, "rows": 2}
    inserted = {"frontend": "simple_query", "frontend_arg": "INSERT INTO t VALUES (42, 'forty-two', now());", "success": True, "rows": 0}
    first = {"ts": 1725368066.79174, "uid": "C68Wxi3EStaTmxaUVl"}
    lines = as_json(first | WHOM | selected, first | WHOM | inserted, first | WHOM | {"rows": 5})
    (tmp_path / "postgresql.log").write_text(lines)
    told = flows(read(Zeek, tmp_path))
    named = {tuple(flow.objects[0].names): flow for flow in of(told, "select")}
    assert {names: flow.rows for names, flow in named.items()} == {("t",): 2, ("unknown",): 5} or sum(f.rows for f in named.values()) == 7
    (insert,) = of(told, "insert")
    assert (insert.rows, insert.completeness.state, insert.account, insert.application) == (0, "lossy", "postgres", "psql")
    assert "hunter2" not in "".join(flow.model_dump_json() if hasattr(flow, "model_dump_json") else str(flow) for flow in told)


@pytest.mark.parametrize("first", ["conn.log", "opcua-binary.log"])
def test_bytes_are_those_of_the_connection_whichever_log_is_read_first(tmp_path: Path, first: str) -> None:
    for name, text in (("conn.log", OPCUA_CONN), ("opcua-binary.log", OPCUA)):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1, 1) if name == first else (2, 2))
    told = flows(read(Zeek, tmp_path))
    # A write goes to the server and what was read comes from it: each has the bytes of its direction, as an estimate.
    assert [(f.bytes, f.messages, f.completeness.estimated) for f in of(told, "write") if f.bytes] in ([(3523, 0, True)], [(3523, 1, True)])
    assert sum(f.bytes for f in of(told, "read")) == 3660
    assert sum(f.messages for f in of(told, "read")) == 1
    assert sum(f.bytes + f.bytes_back for f in told) == 3523 + 3660
    assert {f.protection.transport for f in told} == {"opcua-none"}


def test_a_connection_under_tls_is_one_transfer_with_its_version_and_its_names(tmp_path: Path) -> None:
    ends = {"id.orig_h": "10.30.0.20", "id.orig_p": 60_798, "id.resp_h": "203.0.113.9", "id.resp_p": 443}
    looked_up = {"ts": 1.0, "uid": "C1", **ends, "id.resp_h": "10.30.0.1", "id.resp_p": 53, "proto": "udp"}
    answer = {"query": "lake.example", "rcode": 0, "answers": ["203.0.113.9"], "TTLs": [60.0]}
    (tmp_path / "dns.log").write_text(as_json(looked_up | answer))
    tls = {"version": "TLSv13", "cipher": "TLS_AES_256_GCM_SHA384", "server_name": "lake.example", "established": True}
    (tmp_path / "ssl.log").write_text(as_json({"ts": 2.5, "uid": "C2", **ends} | tls))
    over = {
        "proto": "tcp",
        "service": "ssl",
        "duration": 1.5,
        "orig_bytes": 900,
        "resp_bytes": 80,
        "history": "ShADadFf",
        "missed_bytes": 0,
    }
    (tmp_path / "conn.log").write_text(as_json({"ts": 2.0, "uid": "C2", **ends} | over))
    for place, name in enumerate(("dns.log", "ssl.log", "conn.log"), 1):
        os.utime(tmp_path / name, (place, place))
    told = flows(read(Zeek, tmp_path))
    (transfer,) = of(told, "transfer")
    assert (transfer.bytes, transfer.bytes_back, transfer.depth, transfer.completeness.state) == (900, 80, "blind", "encrypted")
    assert (transfer.protection.transport, transfer.protocol, transfer.start) == ("tls1.3", "tls", "1970-01-01T00:00:03.500Z")
    assert sorted(name.by for name in transfer.destination.names) == ["dns", "sni"]


@pytest.mark.parametrize(
    ("method", "status", "operation", "data_from"),
    [
        ("GET", 200, "get", "server"),
        ("REPORT", 207, "get", "server"),
        ("POST", 201, "put", "client"),
        (None, 200, "put", "client"),
        ("GET", 401, "refused", "client"),
    ],
)
def test_a_request_moves_what_its_method_says_as_on_the_wire(
    tmp_path: Path, method: str | None, status: int, operation: str, data_from: str
) -> None:
    asked = {"method": method} if method else {}
    lines = as_json({"ts": 2.0, "uid": "C2", "uri": "/day?sig=hunter2", "status_code": status} | WHO | asked)
    (tmp_path / "http.log").write_text(lines)
    over = {"proto": "tcp", "service": "http", "orig_bytes": 90, "resp_bytes": 800, "history": "ShADadFf"}
    (tmp_path / "conn.log").write_text(as_json({"ts": 2.0, "uid": "C2"} | WHO | over))
    told = flows(read(Zeek, tmp_path))
    assert [(flow.operation, flow.messages, flow.objects[0].names) for flow in told if flow.messages] == [(operation, 1, ["/day"])]
    assert sum(flow.bytes for flow in told) == (800 if data_from == "server" else 90)


def test_what_went_through_a_tunnel_is_its_bytes_and_no_object(tmp_path: Path) -> None:
    lines = as_json({"ts": 2.0, "uid": "C2", "method": "CONNECT", "uri": "lake.example:443", "status_code": 200} | WHO)
    (tmp_path / "http.log").write_text(lines)
    over = {"proto": "tcp", "service": "http", "orig_bytes": 9_000, "resp_bytes": 80, "history": "ShADadFf"}
    (tmp_path / "conn.log").write_text(as_json({"ts": 2.0, "uid": "C2"} | WHO | over))
    told = flows(read(Zeek, tmp_path))
    assert {(flow.operation, flow.bytes, len(flow.objects)) for flow in told} == {("connect", 0, 0), ("transfer", 9_000, 0)}


@pytest.mark.parametrize(
    ("history", "sizes", "missed", "state", "operation"),
    [
        ("S", (0, 0), 0, "complete", "attempt"),
        ("ShADadFf", (10, 20), 5, "lossy", "transfer"),
        ("DadA", (10, 20), 0, "late", "transfer"),
        ("SAD", (10, 0), 0, "one-sided", "transfer"),
    ],
)
def test_what_zeek_saw_of_a_connection_in_part_says_so(
    tmp_path: Path, history: str, sizes: tuple[int, int], missed: int, state: str, operation: str
) -> None:
    over = {"proto": "tcp", "orig_bytes": sizes[0], "resp_bytes": sizes[1], "history": history, "missed_bytes": missed}
    (tmp_path / "conn.log").write_text(as_json({"ts": 2.0, "uid": "C2"} | WHO | over))
    (flow,) = flows(read(Zeek, tmp_path))
    assert (flow.operation, flow.completeness.state, flow.protocol, flow.depth) == (operation, state, None, "sizes")


@pytest.mark.parametrize(
    ("name", "log"),
    [
        ("conn.log", "conn"),
        ("conn.2026-04-07-10-00-00.log", "conn"),
        ("conn_20260407_10:00:00-11:00:00+0000.log", "conn"),
        ("conn.10:00:00-11:00:00.log", "conn"),
        ("notice.log", "notice"),
    ],
)
def test_a_rotated_log_is_known_by_its_name(tmp_path: Path, name: str, log: str) -> None:
    over = {"proto": "tcp", "orig_bytes": 1, "resp_bytes": 2, "history": "ShADadFf", "missed_bytes": 0}
    (tmp_path / name).write_text(as_json({"ts": 2.0, "uid": "C2"} | WHO | over))
    assert len(flows(read(Zeek, tmp_path))) == (log == "conn")


def test_a_line_that_is_no_record_is_counted_with_where_it_lies(tmp_path: Path) -> None:
    good = {"proto": "tcp", "orig_bytes": 1, "resp_bytes": 2, "history": "ShADadFf", "missed_bytes": 0}
    lines = as_json({"ts": 1.0, "uid": "C1"} | WHO | good, {"ts": 1.0, "uid": "C2"}, {"ts": "x", "uid": "C3"} | WHO)
    (tmp_path / "conn.log").write_text(lines + '{"ts": 1\n' + as_json({"ts": 3.0, "uid": "C4"} | WHO | good))
    log = read(Zeek, tmp_path)
    assert len(flows(log)) == 2
    assert log.counters()["zeek_unreadable"] == 3
    assert log.example.startswith(f"{tmp_path}/conn.log at byte ")


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "conn.log").write_text("2026-04-07 10:42:08 something\n")
    with pytest.raises(FeedError, match="neither JSON nor a log of Zeek"):
        read(Zeek, tmp_path)
    with pytest.raises(FeedError, match="not the JSON lines of an eve-log"):
        read(Suricata, tmp_path)


# Suricata, against what the clients of the recorded day have counted themselves


def test_suricatas_messages_of_mqtt_are_those_that_the_clients_counted(day: list[Flow]) -> None:
    counted = Counter[str]()
    for line in LEDGER:
        if line["protocol"] == "mqtt":
            counted[line["account"]] += line["messages"]
    told = Counter[str]()
    for flow in of(day, "publish") + of(day, "subscribe"):
        told[flow.account or ""] += flow.messages
        assert (flow.operation == "publish") == (flow.account == "svc_edge"), "what a subscriber got is not what it sent"
    assert told == counted


def test_suricatas_rows_are_those_of_the_one_account_whose_statements_it_could_all_read(day: list[Flow]) -> None:
    (mine,) = [line for line in LEDGER if line["account"] == "tmp_export"]
    (select,) = [flow for flow in of(day, "select") if flow.account == "tmp_export" and flow.rows]
    assert (select.rows, select.completeness.state, select.objects[0].names) == (mine["rows"], "complete", ["mes.work_order"])


def test_what_suricata_could_not_read_of_postgresql_is_a_transfer_of_the_account_and_unknown_rows(day: list[Flow]) -> None:
    unread = {flow.account for flow in of(day, "transfer") if flow.protocol == "postgresql"}
    assert unread == {"svc_mes", "svc_mw", "svc_report", "tmp_export"}
    assert {flow.completeness.state for flow in of(day, "copy") if flow.messages} == {"lossy"}


def test_suricatas_bytes_are_an_estimate_within_the_options_of_its_packets(day: list[Flow]) -> None:
    # 12 bytes of time stamps and their padding are in every packet of this day but the first two (RFC 7323, 3.2).
    sent = sum(line["sent"] + line["received"] for line in LEDGER if line["protocol"] == "mqtt")
    mqtt = [flow for flow in day if flow.protocol == "mqtt"]
    told = sum(flow.bytes + flow.bytes_back for flow in mqtt)
    packets = sum(
        record["flow"]["pkts_toserver"] + record["flow"]["pkts_toclient"]
        for record in map(json.loads, gzip.decompress(DAY.read_bytes()).splitlines())
        if record["event_type"] == "flow" and record.get("app_proto") == "mqtt"
    )
    assert sent <= told <= sent + 20 * packets
    assert all(flow.completeness.estimated for flow in mqtt if flow.bytes)


# Both


def killed_and_restarted(make: Callable[[str], SensorLog], kills: Sequence[int]) -> list[bytes]:
    """Every line that anyone was given, of a reader that is killed after so many batches, each with what it was given last."""
    told: list[bytes] = []
    for after in kills:
        batches = make("place").batches(lambda: False, follow=False)
        for _ in range(after):
            told += next(batches, [])
    return told + [line for batch in make("place").batches(lambda: False, follow=False) for line in batch]


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_reader_loses_nothing_and_says_nothing_twice_with_another_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 8_192)
    (tmp_path / "eve.log").write_bytes(gzip.decompress(DAY.read_bytes()))
    whole = [line for batch in read(Suricata, tmp_path, state="whole").batches(lambda: False, follow=False) for line in batch]
    kills = [random.Random(seed).randint(1, 12) for _ in range(4)]
    told = killed_and_restarted(lambda state: read(Suricata, tmp_path, state=state), kills)
    by_id = {json.loads(line)["event_id"]: json.loads(line) for line in told}
    assert len(whole) > 40
    assert by_id == {json.loads(line)["event_id"]: json.loads(line) for line in whole}


@pytest.mark.parametrize(
    ("filter_", "topic", "has"),
    [
        ("a/+/c", "a/b/c", True), ("a/#", "a", True), ("a/#", "a/b/c", True), ("+", "a/b", False), ("a/b", "a/b/c", False),
        ("$share/g/a/+", "a/b", True), ("a/+", "a", False), ("#", "a/b", True),
    ],
)  # fmt: skip
def test_a_filter_has_the_topics_that_the_standard_says(filter_: str, topic: str, has: bool) -> None:
    assert matches(filter_, topic) is has
