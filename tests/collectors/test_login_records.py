"""Records of logins, in whichever shape a plant has them, become connect flows under the client's address, port and account.

The Windows records have the fields of Microsoft's pages on the events 4624, 4634, 4768 and 4769, in the shapes in which Winlogbeat 8
(Elastic's field reference), evtx_dump and PowerShell's ConvertTo-Json write them; written by hand, no such machine was at hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.logins import Logins
from hopwatch.events import Flow, parse
from tests.collectors.killing import told_once

SERVER = "10.20.1.23:1433"
Json = dict[str, Any]


def plain(event: str = "login", second: int = 0, **more: Any) -> Json:
    base = {"time": f"2026-04-07T10:42:{second:02d}Z", "event": event, "client": "10.30.0.20", "client_port": 50_001, "account": "svc_mw"}
    return base | more


def logon(number: int = 4624, **more: Any) -> Json:
    """What Windows says of a logon."""
    said = {"TargetUserName": "svc_mes", "TargetDomainName": "PLANT", "TargetLogonId": "0x3e7a1", "LogonType": "3"}
    where = {"IpAddress": "10.30.0.20", "IpPort": "50001", "AuthenticationPackageName": "NTLM"}
    return said | where | more if number != 4634 else said | more


def winlogbeat(number: int, data: Json, second: int = 0) -> Json:
    at = f"2026-04-07T10:42:{second:02d}.123Z"
    return {"@timestamp": at, "event": {"code": str(number)}, "winlog": {"event_id": number, "event_data": data}, "host": {"name": "sql-1"}}


def evtx(number: int, data: Json, second: int = 0) -> Json:
    at = f"2026-04-07T10:42:{second:02d}.123456Z"
    system = {"EventID": number, "TimeCreated": {"#attributes": {"SystemTime": at}}, "Computer": "sql-1"}
    return {"Event": {"System": system, "EventData": data}}


def flat(number: int, data: Json, second: int = 0) -> Json:
    return {"EventTime": f"2026-04-07 10:42:{second:02d}", "EventID": number} | data


def reader(folder: Path, options: str = "") -> Logins:
    return Logins.of(Told.of(f"logins:dc-log={SERVER}={folder}/*.json{options}", "agent"), "north", folder / "place", now_ns=lambda: 0)


def written(folder: Path, *records: Json | str) -> Logins:
    (folder / "a.json").write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return reader(folder)


def everything(log: Logins) -> list[bytes]:
    return [line for batch in log.batches(lambda: False, follow=False) for line in batch]


def flows(lines: list[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def test_a_login_is_a_connect_flow_of_the_connection_that_a_tap_sees(tmp_path: Path) -> None:
    found = flows(everything(written(tmp_path, plain(), plain("logout", 9), plain(second=30, client_port=50_002))))
    (first,) = [flow for flow in found if flow.source.port == 50_001]
    assert (first.account, first.account_from, first.operation, first.depth) == ("svc_mw", "server-log", "connect", "server-log")
    assert (first.source.address, first.source.port, first.destination.port) == ("10.30.0.20", 50_001, 1433)
    assert (first.final, first.end) == (True, "2026-04-07T10:42:09Z")


@pytest.mark.parametrize("shape", [winlogbeat, evtx, flat])
def test_a_logon_of_windows_names_account_and_port_in_every_shape(tmp_path: Path, shape: Any) -> None:
    records = [shape(4624, logon()), shape(4634, logon(4634), 9), shape(4624, logon(IpPort="50002", TargetLogonId="0x9"), 40)]
    found = flows(everything(written(tmp_path, *records)))
    assert {(flow.account, flow.source.port, flow.protection.authentication) for flow in found} == {
        ("PLANT\\svc_mes", 50_001, "ntlm"), ("PLANT\\svc_mes", 50_002, "ntlm"),
    }  # fmt: skip
    assert [flow.source.port for flow in found if flow.final] == [50_001]


def test_a_kerberos_ticket_is_a_login_of_an_address_and_its_port_is_not_believed(tmp_path: Path) -> None:
    ticket = {"TargetUserName": "svc_mes@PLANT.EXAMPLE", "TargetDomainName": "PLANT.EXAMPLE", "ServiceName": "svc_sql", "Status": "0x0"}
    place = {"IpAddress": "::ffff:10.30.0.20", "IpPort": "61234"}
    (tmp_path / "a.json").write_text(json.dumps(winlogbeat(4769, ticket | place)) + "\n")
    (flow,) = flows(everything(reader(tmp_path, "?service=SVC_SQL")))
    assert (flow.account, flow.source.address, flow.source.port) == ("PLANT\\svc_mes", "10.30.0.20", 0)
    (tmp_path / "place").unlink()
    assert everything(reader(tmp_path, "?service=svc_files")) == []


@pytest.mark.parametrize(
    "data",
    [logon(TargetUserName="SQL-1$"), logon(TargetUserName="ANONYMOUS LOGON"), logon(IpAddress="-"), logon(IpAddress="127.0.0.1")],
)
def test_machines_nobody_and_the_host_itself_are_passed_over_and_counted(tmp_path: Path, data: Json) -> None:
    log = written(tmp_path, winlogbeat(4624, data), winlogbeat(1102, {}))
    assert everything(log) == []
    assert log.counters()["logins_passed_over"] == 2


def test_a_failed_logon_is_refused(tmp_path: Path) -> None:
    found = flows(everything(written(tmp_path, winlogbeat(4625, logon()), plain("refused", 5, client_port=50_009))))
    assert {(flow.operation, flow.account) for flow in found if flow.messages} == {("refused", "PLANT\\svc_mes"), ("refused", "svc_mw")}


def test_logins_without_a_port_are_told_apart_and_each_ends(tmp_path: Path) -> None:
    records = [plain(client_port=0, session=str(n), account=f"user_{n % 2}") for n in range(6)]
    found = flows(everything(written(tmp_path, *records, *[plain("logout", 20, session=str(n)) for n in range(6)], plain(second=40))))
    of_none = [flow for flow in found if flow.source.port == 0]
    assert len({flow.flow_id for flow in of_none}) == len([flow for flow in of_none if flow.final]) == 6
    assert len({flow.event_id for flow in found}) == len(found)


def test_a_record_that_cannot_be_read_is_counted_with_its_place_and_is_not_fatal(tmp_path: Path) -> None:
    log = written(tmp_path, plain(), '{"time": ', plain(client_port=99_999), plain(account=None), plain(time="yesterday"), plain(second=9))
    assert len({flow.flow_id for flow in flows(everything(log))}) == 2
    assert log.unreadable == 4
    assert "byte" in log.example
    assert "10.30" not in log.example


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 400)
    records = [plain(second=n, client_port=50_000 + n, session=str(n)) for n in range(20)]
    records += [plain("logout", 20 + n, session=str(n)) for n in range(20)]
    written(tmp_path, *records)
    whole = told_once(lambda: reader(tmp_path), tmp_path / "place", kills=12)
    assert len({flow.flow_id for flow in flows(whole)}) == 20


def test_what_is_told_wrongly_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="service is empty"):
        reader(tmp_path, "?service=")
    (tmp_path / "a.json").write_text("time,client\n")
    with pytest.raises(FeedError, match="no JSON lines; logins reads one object"):
        reader(tmp_path)
