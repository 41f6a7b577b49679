"""Records of SQL Server and Oracle become flows.

Written by hand after the vendors' pages: Microsoft Learn on sys.fn_get_audit_file, sys.fn_xe_file_target_read_file, sys.dm_exec_connections
and sys.dm_exec_sessions; Oracle Database Reference 19c on UNIFIED_AUDIT_TRAIL and V$SESSION. No such server was at hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from collectors import tail
from collectors.feed import Told
from collectors.oracle_log import OracleLog
from collectors.records import Records
from collectors.sqlserver_log import SqlserverLog
from hopwatch.events import Flow, parse
from tests.collectors.killing import told_once

Json = dict[str, Any]
CLIENT = "10.30.0.20"
KINDS = {"sqlserver-log": (SqlserverLog, 1433), "oracle-log": (OracleLog, 1521)}
POOLED = "<action_info><pooled_connection>1</pooled_connection></action_info>"


def sample(session: int = 55, port: int = 50_055, second: int = 0, **more: Any) -> Json:
    who = {"original_login_name": "PLANT\\svc_mes", "program_name": "MES Client", "auth_scheme": "NTLM", "encrypt_option": "TRUE"}
    where = {"client_net_address": CLIENT, "client_tcp_port": port, "session_id": session}
    return {"sample_time": f"2026-04-07T10:42:{second:02d}.1234567Z"} | where | who | more


def audit(action: str, second: int = 1, session: int = 55, **more: Any) -> Json:
    what = {"event_time": f"2026-04-07 10:42:{second:02d}.1234567", "action_id": f"{action:<4}", "session_id": session, "succeeded": True}
    return what | {"server_principal_name": "PLANT\\svc_mes", "client_ip": CLIENT, "application_name": "MES Client"} | more


def table(name: str = "Lots", **more: Any) -> Json:
    return {"database_name": "mes", "schema_name": "dbo", "object_name": name, "class_type": "U "} | more


def extended(text: str, rows: int, second: int = 1, session: int = 55, kind: str = "sql_batch_completed") -> Json:
    said = text.replace("&", "&amp;").replace("<", "&lt;")
    data = f'<data name="row_count"><value>{rows}</value></data><data name="batch_text"><value>{said}</value></data>'
    data += '<data name="result"><value>0</value><text>OK</text></data>'
    action = f'<action name="session_id" package="sqlserver"><value>{session}</value></action>'
    at = f"2026-04-07T10:42:{second:02d}.123Z"
    event = f'<event name="{kind}" package="sqlserver" timestamp="{at}">{data}{action}</event>'
    return {"object_name": kind, "event_data": event, "file_name": "x.xel", "file_offset": 0}


def trail(action: str, second: int = 0, number: int = 4711, port: int | None = 51_234, **more: Any) -> Json:
    how = f"(TYPE=(DATABASE));(CLIENT ADDRESS=((PROTOCOL=tcps)(HOST={CLIENT})(PORT={port})));" if port else "(TYPE=(DATABASE));"
    who = {"DBUSERNAME": "SVC_MES", "CLIENT_PROGRAM_NAME": "mes.exe", "AUTHENTICATION_TYPE": how, "RETURN_CODE": 0}
    return {"EVENT_TIMESTAMP_UTC": f"2026-04-07T10:42:{second:02d}.123456Z", "ACTION_NAME": action, "SESSIONID": number} | who | more


def reader(kind: str, folder: Path) -> Records:
    made, port = KINDS[kind]
    return made.of(Told.of(f"{kind}:db-log=10.20.1.23:{port}={folder}/*.json", "agent"), "north", folder / "place", now_ns=lambda: 0)


def everything(log: Records) -> list[bytes]:
    return [line for batch in log.batches(lambda: False, follow=False) for line in batch]


def flows(kind: str, folder: Path, *records: Json | str) -> list[Flow]:
    (folder / "a.json").write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return [event for event in map(parse, everything(reader(kind, folder))) if isinstance(event, Flow)]


def test_a_sample_of_sql_server_names_the_connection_whose_login_is_encrypted(tmp_path: Path) -> None:
    (flow,) = flows("sqlserver-log", tmp_path, sample())
    assert (flow.account, flow.account_from, flow.application) == ("PLANT\\svc_mes", "server-log", "MES Client")
    assert (flow.source.address, flow.source.port, flow.destination.port, flow.protocol) == (CLIENT, 50_055, 1433, "tds")
    assert flow.protection.authentication == "ntlm"


def test_an_array_of_rows_is_as_many_records(tmp_path: Path) -> None:
    found = flows("sqlserver-log", tmp_path, json.dumps([sample(), sample(56, 50_056)]))
    assert {flow.source.port for flow in found} == {50_055, 50_056}


def test_batches_of_extended_events_are_their_sessions_with_tables_and_rows(tmp_path: Path) -> None:
    found = flows("sqlserver-log", tmp_path, sample(), extended("select [Lot] from [mes].[Lots] where [Lot] = 'hunter2'", 40))
    (select,) = [flow for flow in found if flow.operation == "select"]
    assert (select.rows, select.account, select.destination.port) == (40, "PLANT\\svc_mes", 50_055)
    assert [part.names for part in select.objects] == [["mes.lots"]]
    assert "hunter2" not in str(found) + (tmp_path / "place").read_text()


def test_rows_of_a_batch_of_several_statements_are_unknown(tmp_path: Path) -> None:
    found = flows("sqlserver-log", tmp_path, sample(), extended("select a from x; delete from y", 40))
    assert {(flow.operation, flow.rows, flow.completeness.state) for flow in found if flow.operation != "connect"} == {
        ("select", 0, "lossy"), ("delete", 0, "lossy"),
    }  # fmt: skip


def test_an_audit_of_sql_server_tells_statements_accounts_and_refusals(tmp_path: Path) -> None:
    records = [
        audit("LGIS", 0), audit("SL", **table(), response_rows=12), audit("UP", **table(), affected_rows=3),
        audit("SL", **table("Wages"), succeeded=False),
        audit("CR", **table("intruder", class_type="SL", target_server_principal_name="intruder")),
        audit("APRL", target_server_principal_name="intruder"), audit("LGIF", 2, session=60, server_principal_name="sa"),
    ]  # fmt: skip
    found = {flow.operation: flow for flow in flows("sqlserver-log", tmp_path, *records) if flow.account != "sa"}
    assert (found["select"].rows, found["update"].rows, found["select"].objects[0].names) == (12, 3, ["mes.dbo.Lots"])
    assert found["refused"].objects[0].names == ["mes.dbo.Wages"]
    assert [(part.names, part.columns) for part in found["admin"].objects] == [
        (["account:intruder"], ["create"]),
        (["account:intruder"], ["grant"]),
    ]
    (tmp_path / "place").unlink()
    assert [flow.account for flow in flows("sqlserver-log", tmp_path, records[-1]) if flow.operation == "refused"] == ["sa"]


def test_a_connection_of_a_pool_that_is_used_again_stays_the_connection(tmp_path: Path) -> None:
    again = [audit("LGIS", 1, additional_information=POOLED), audit("LGO", 2, additional_information=POOLED)]
    found = flows("sqlserver-log", tmp_path, sample(), *again, extended("select a from x", 1, 3))
    assert {flow.connection for flow in found} == {found[0].connection}


def test_a_session_that_samples_show_no_longer_has_ended(tmp_path: Path) -> None:
    later = sample(56, 50_056) | {"sample_time": "2026-04-07T10:45:00Z"}
    found = flows("sqlserver-log", tmp_path, sample(), later)
    assert [flow.source.port for flow in found if flow.final] == [50_055]


@pytest.mark.parametrize("data", ['<!DOCTYPE x [<!ENTITY a "b">]><event/>', "<event", "x" * (1 << 21)])
def test_an_event_that_is_no_event_is_counted_and_is_not_fatal(tmp_path: Path, data: str) -> None:
    (tmp_path / "a.json").write_text("".join(json.dumps(one) + "\n" for one in ({"event_data": data}, sample())))
    log = reader("sqlserver-log", tmp_path)
    assert len(everything(log)) == 1
    assert log.unreadable == 1


def test_the_audit_trail_of_oracle_tells_who_from_which_port_did_what(tmp_path: Path) -> None:
    records = [
        trail("LOGON"),
        trail("SELECT", 1, port=None, OBJECT_SCHEMA="MES", OBJECT_NAME="LOTS", SQL_TEXT="select 'hunter2' from lots"),
    ]
    records += [
        trail("CREATE USER", 2, port=None, OBJECT_NAME="INTRUDER"),
        trail("SELECT", 3, port=None, OBJECT_NAME="WAGES", RETURN_CODE=942),
    ]
    found = {flow.operation: flow for flow in flows("oracle-log", tmp_path, *records, trail("LOGOFF", 4, port=None))}
    connect, select = found["connect"], found["select"]
    assert (connect.account, connect.application, connect.source.address, connect.source.port) == ("SVC_MES", "mes.exe", CLIENT, 51_234)
    assert (select.objects[0].names, select.messages, select.completeness.state) == (["mes.lots"], 1, "lossy")
    assert [(part.names, part.columns) for part in found["admin"].objects] == [(["account:intruder"], ["create"])]
    assert (found["refused"].objects[0].names, connect.protocol, connect.protection.authentication) == (["wages"], "tns", "database")
    assert "hunter2" not in str(found)


def test_a_login_that_oracle_refused_names_who_tried(tmp_path: Path) -> None:
    (flow,) = [one for one in flows("oracle-log", tmp_path, trail("LOGON", RETURN_CODE=1017)) if one.operation == "refused"]
    assert (flow.account, flow.source.port) == ("SVC_MES", 51_234)


def test_a_sample_of_oracles_sessions_names_one_that_began_before(tmp_path: Path) -> None:
    said = {
        "SAMPLE_TIME": "2026-04-07T10:42:00Z",
        "SID": 12,
        "SERIAL#": 3,
        "AUDSID": 4711,
        "USERNAME": "SVC_MES",
        "PORT": 51_234,
        "PROGRAM": "mes.exe",
    }
    (flow,) = flows("oracle-log", tmp_path, said | {"MACHINE": CLIENT}, said | {"MACHINE": "mes-app", "AUDSID": 9}, said | {"AUDSID": 0})
    assert (flow.account, flow.source.port, flow.completeness.state) == ("SVC_MES", 51_234, "late")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 1_200)
    records: list[Json] = []
    for n in range(12):
        if kind == "oracle-log":
            records += [
                trail("LOGON", n, n + 1, 50_000 + n),
                trail("UPDATE", n, n + 1, None, OBJECT_NAME="LOTS"),
                trail("LOGOFF", n, n + 1, None),
            ]
        else:
            records += [sample(n + 51, 50_000 + n, n), extended("update lots set a = 1", 2, n, n + 51)]
    (tmp_path / "a.json").write_text("".join(json.dumps(one) + "\n" for one in records))
    whole = told_once(lambda: reader(kind, tmp_path), tmp_path / "place", kills=8)
    assert len(whole) > 12
