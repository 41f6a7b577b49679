"""Whatever stands in a record for a value, the record is read or counted, and the next one is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.feed import Told
from collectors.log import Log
from hopwatch.events import Flow, parse
from hopwatch.feeds import kind

ODD: tuple[Any, ...] = (  # Any: JSON values
    None, True, -1, 10**30, 2**62, 2**64 - 1, 1e308, float("inf"), float("nan"), "", "x", "-5", "9" * 30, "²", "\ud800",
    [], ["a"], {}, {"a": 1}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-04-07T10:42:08Z",
)  # fmt: skip

ZEEK = {"ts": 2.0, "uid": "C", "id.orig_h": "10.0.0.1", "id.orig_p": 40_190, "id.resp_h": "10.0.0.2", "id.resp_p": 5432, "proto": "tcp"}
SURICATA = {
    "timestamp": "2026-04-07T10:42:08.026000+0000", "flow_id": 1, "src_ip": "10.0.0.1", "src_port": 40_190, "dest_ip": "10.0.0.2",
    "dest_port": 5432, "proto": "TCP",
}  # fmt: skip
FLOW = {"end": "2026-04-07T10:42:08.026000+0000", "pkts_toserver": 3, "pkts_toclient": 3, "bytes_toserver": 900, "bytes_toclient": 900}
POSTGRESQL = {
    "timestamp": "2026-04-07 10:42:08.026 UTC", "user": "u", "remote_host": "10.0.0.1", "remote_port": 4000, "session_id": "a.b",
    "line_num": 1, "error_severity": "LOG", "state_code": "00000", "message": "statement: SELECT a FROM t", "application_name": "x",
}  # fmt: skip
WINDOWS = {"TargetUserName": "u", "TargetDomainName": "D", "IpAddress": "10.0.0.1", "IpPort": "4000", "Status": "0x0", "TargetLogonId": "1"}
EVENT = (
    "<event name='sql_batch_completed' timestamp='2026-04-07T10:42:08Z'><data name='row_count'><value>{}</value></data>"
    "<data name='batch_text'><value>select a from t</value></data><action name='session_id'><value>5</value></action></event>"
)
SAMPLE = {"session_id": 5, "client_net_address": "10.0.0.1", "client_tcp_port": 4000, "sample_time": "2026-04-07T10:42:08Z"}

RECORDS: dict[str, list[dict[str, Any]]] = {  # Any: JSON values
    "zeek": [
        ZEEK | {"_path": path} | more for path, more in (
            ("conn", {"duration": 1.5, "orig_bytes": 9, "resp_bytes": 8, "history": "ShADadFf", "missed_bytes": 0}),
            ("ssl", {"version": "TLSv13", "cipher": "c", "server_name": "s", "client_subject": "CN=x"}),
            ("dns", {"query": "a.b", "rcode": 0, "answers": ["10.1.1.1"], "TTLs": [60.0]}),
            ("http", {"method": "GET", "uri": "/x", "status_code": 200, "username": "u", "user_agent": "a", "host": "h:80"}),
            ("mqtt_connect", {"client_id": "c", "connect_status": "accepted"}),
            ("mqtt_publish", {"from_client": True, "topic": "t"}),
            ("mqtt_subscribe", {"topics": ["a"]}),
            ("mysql", {"cmd": "query", "arg": "insert into t values (1)", "success": True, "rows": 3}),
            ("postgresql", {"frontend": "parse", "frontend_arg": "SELECT a FROM t", "rows": 3, "user": "u", "application_name": "a"}),
            ("postgresql", {"rows": 3, "user": "u"}),
            ("opcua_binary", {"identifier_str": "ReadResponse", "is_final": "F", "endpoint_url": "opc.tcp://h:4840"}),
            ("opcua_binary_create_session", {"user_name": "u", "application_uri": "a"}),
        )
    ],
    "suricata": [
        SURICATA | {"event_type": kind_, kind_: said, "app_proto": "http", "tcp": {"syn": True}} for kind_, said in (
            ("flow", FLOW),
            ("tls", {"version": "TLS 1.3", "sni": "s"}),
            ("dns", {"type": "answer", "rrname": "a.b", "answers": [{"rrtype": "A", "rdata": "10.1.1.1", "ttl": 60}]}),
            ("http", {"http_method": "GET", "url": "/x", "status": 200, "hostname": "h", "http_user_agent": "a"}),
            ("mqtt", {"connect": {"username": "u", "client_id": "c"}, "connack": {"return_code": 0}}),
            ("mqtt", {"publish": {"topic": "t"}}),
            ("mqtt", {"subscribe": {"topics": [{"topic": "t"}]}}),
            ("pgsql", {"request": {"simple_query": "select a from t"}, "response": {"data_rows": 3}}),
            ("pgsql", {"request": {"simple_query": "delete from t"}, "response": {"command_completed": "DELETE 3"}}),
            ("pgsql", {"request": {"startup_parameters": {"user": "u", "optional_parameters": [{"application_name": "x"}]}}}),
        )
    ],
    "relay-log": [{
        "time": "1795329334.401", "client": "10.0.0.1", "client_port": 58_940, "relay": "10.0.0.2", "relay_port": 3128, "user": "u",
        "method": "PUT", "target": "https://lake.example/raw", "agent": "e", "status": 201, "received": 5_132, "sent": 221, "host": "h",
    }],
    "postgresql-log": [
        POSTGRESQL | {"message": "connection authorized: user=u application_name=x"},
        POSTGRESQL,
        POSTGRESQL | {"message": "AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,SELECT a FROM t,<none>,3"},
        POSTGRESQL | {"error_severity": "ERROR", "state_code": "42501", "statement": "select a from t"},
    ],
    "oracle-log": [
        {"ACTION_NAME": "SELECT", "EVENT_TIMESTAMP_UTC": "2026-04-07T10:42:08Z", "SESSIONID": 5, "DBUSERNAME": "U", "OBJECT_SCHEMA": "A",
         "AUTHENTICATION_TYPE": "(TYPE=(DATABASE));(CLIENT ADDRESS=((PROTOCOL=tcp)(HOST=10.0.0.1)(PORT=4000)))", "OBJECT_NAME": "B",
         "RETURN_CODE": 0},
        {"AUDSID": 6, "USERNAME": "U", "SAMPLE_TIME": "2026-04-07T10:42:08Z", "CLIENT_IP": "10.0.0.1", "PORT": 4000, "PROGRAM": "x"},
    ],
    "sqlserver-log": [
        SAMPLE | {"original_login_name": "u", "program_name": "x", "encrypt_option": "TRUE", "auth_scheme": "SQL"},
        {"action_id": "SL", "event_time": "2026-04-07T10:42:08Z", "session_id": 5, "client_ip": "10.0.0.1", "server_principal_name": "u",
         "succeeded": True, "database_name": "d", "schema_name": "s", "object_name": "o", "response_rows": 5, "class_type": "U "},
        {"event_data": EVENT.format("9" * 30)}, {"event_data": EVENT.format("\N{SUPERSCRIPT TWO}")}, {"event_data": EVENT.format(5)},
    ],
    "logins": [
        {"time": "2026-04-07T10:42:08Z", "client": "10.0.0.1", "client_port": 4000, "account": "u", "session": "s", "application": "a",
         "server": "10.0.0.9", "server_port": 5},
        {"winlog": {"event_id": 4624, "time_created": "2026-04-07T10:42:08Z", "event_data": WINDOWS}},
        {"winlog": {"event_id": 4769, "time_created": "2026-04-07T10:42:08Z", "event_data": WINDOWS | {"ServiceName": "x"}}},
    ],
}  # fmt: skip
OWN = {"zeek": "uid", "suricata": "flow_id", "postgresql-log": "session_id", "oracle-log": "SESSIONID", "logins": "session"}
"""What makes a record one of a connection of its own, so that none is read like the one before."""


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # Any: JSON values, their keys and indices
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(one, (*place, key))


def with_(record: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:  # Any: as above
    made = inner = json.loads(json.dumps(record))
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made  # type: ignore[no-any-return]  # A JSON object.


def read(folder: Path, name: str, lines: list[str] | list[bytes]) -> tuple[Log[Any], list[Flow]]:  # Any: its records
    (folder / "a.log").write_bytes(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))
    where = f"{folder}/*.log" if name in ("zeek", "suricata", "relay-log") else f"10.0.0.2:5432={folder}/*.log"
    told = Told.of(f"{name}:f={where}", "a")
    log = kind(told).of(told, "north", folder / "place")
    assert isinstance(log, Log)
    events = [parse(event) for batch in log.batches(lambda: False, follow=False) for event in batch]
    return log, [event for event in events if isinstance(event, Flow)]


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_with_anything_for_a_value_is_read_or_counted_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    odd = [with_(record, place, value) for record in RECORDS[name] for place in places(record) for value in ODD]
    for number, record in enumerate(odd):
        if name in OWN and isinstance(record.get(OWN[name]), str | int) and record[OWN[name]] in ("C", 1, "a.b", 5, "s"):
            record[OWN[name]] = f"{number}"
    last = json.loads(json.dumps(RECORDS[name][0]).replace("10.0.0.1", "10.0.0.77")) | (
        {OWN[name]: "last"} if name in OWN else {"session_id": 77}
    )
    whole = json.dumps(RECORDS[name][0])
    log, told = read(tmp_path, name, [whole, *map(json.dumps, odd), json.dumps(last)])
    counters, kind_ = log.counters(), name.replace("-", "_")
    assert counters[f"{kind_}_lines"] + counters[f"{kind_}_unreadable"] == len(odd) + 2
    assert counters[f"{kind_}_unreadable"] > 5
    assert any("10.0.0.77" in (flow.source.address, flow.destination.address) for flow in told)


@pytest.mark.parametrize("name", ["\\ud800x", "x\\uD83D", "\udcff"], ids=["half a pair", "the other half", "no UTF-8"])
def test_nobody_is_hidden_by_a_name_that_is_no_text(tmp_path: Path, name: str) -> None:
    line = json.dumps(RECORDS["relay-log"][0] | {"user": "NAME"}).encode().replace(b"NAME", name.encode("utf-8", "surrogateescape"))
    log, (flow,) = read(tmp_path, "relay-log", [line + b"\n"])
    assert (flow.bytes, log.unreadable) == (5_132, 0)
    assert flow.account is not None
    assert flow.account.strip("x") in ("?", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("rows", ["9" * 30, "9" * 5_000], ids=["more than a window holds", "more digits than are read"])
def test_what_a_client_has_written_into_the_servers_log_does_not_end_its_reading(tmp_path: Path, rows: str) -> None:
    raised = POSTGRESQL | {"line_num": 2, "message": f"AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,SELECT a FROM t,<none>,{rows}"}
    log, told = read(tmp_path, "postgresql-log", [json.dumps(one) for one in (POSTGRESQL, raised, POSTGRESQL | {"line_num": 3})])
    assert log.counters()["postgresql_log_audits_unreadable"] == 1
    assert sum(flow.messages for flow in told if flow.operation == "select") == 2


def test_a_port_that_is_none_makes_a_line_unreadable(tmp_path: Path) -> None:
    mariadb = "20260407 10:42:08,db,u,10.0.0.1:{},7,0,CONNECT,mes,,0\n"
    log, told = read(tmp_path, "mariadb-log", [mariadb.format(99_999).encode(), mariadb.format(4_000).replace(",7,", ",8,").encode()])
    assert (log.unreadable, {flow.source.port for flow in told}) == (1, {4_000})
