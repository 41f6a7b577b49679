"""A MariaDB server's logs become flows, whichever of them there are, once, whoever is killed.

The records are those of a real MariaDB 10.11.19, shortened; addresses and names are of the example plant. Those of MySQL 8.0 and of
MariaDB 12.0's audit file are written after their manuals (MySQL 8.0, 5.4.5; MariaDB, "Audit Plugin Log Format").
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.mariadb_log import MariadbLog
from collectors.mariadb_sessions import Place, Sample
from hopwatch.events import Flow, parse
from tests.collectors.killing import told_once

BANNER = (
    "mariadbd, Version: 10.11.19-MariaDB (Debian 12). started with:\nTcp port: 3306  Unix socket: /run/s\n"
    "Time\t\t    Id Command\tArgument\n"
)
SECRET = "hunter2"
STAMP = 1_775_558_528
"""2026-04-07T10:42:08Z"""
AT = "20260407 10:42:08"


def slow(text: str, sent: int = 0, affected: int = 0, *, thread: int = 4, user: str = "svc_mw", at: int = STAMP) -> str:
    return (
        f"# User@Host: {user}[{user}] @  [10.30.0.20]\n# Thread_id: {thread}  Schema: mes  QC_hit: No\n"
        f"# Query_time: 0.000813  Lock_time: 0.000510  Rows_sent: {sent}  Rows_examined: 40\n"
        f"# Rows_affected: {affected}  Bytes_sent: 691\n# Full_scan: Yes  Full_join: No  Tmp_table: No  Tmp_table_on_disk: No\n"
        f"SET timestamp={at};\n{text};\n"
    )


def audit(verb: str, *, thread: int = 4, user: str = "svc_mw", host: str = "10.30.0.20", text: str = "", code: int = 0) -> str:
    said = f"mes,'{text}',{code}" if text else f"mes,,{code}"
    return f"{AT},mes-db,{user},{host},{thread},{7 if text else 0},{verb},{said}\n"


def table(text: str, sent: int, affected: int = 0, *, thread: int = 4) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    who = "svc_mw[svc_mw] @  [10.30.0.20]"
    return (
        f'"2026-04-07 10:42:08.263488","{who}","00:00:00.000632","00:00:00.000476",{sent},40,"mes",0,0,1,"{escaped}",{thread},{affected}\n'
    )


def session(thread: int = 4, turns: int = 3) -> str:
    return "".join(slow(f"select lot from lots where id > {turn} and key = '{SECRET}'", 10 + turn, thread=thread) for turn in range(turns))


def told(folder: Path, where: str) -> Told:
    return Told.of(f"mariadb-log:mes-db-log=10.20.1.21:3306={','.join(str(folder / one) for one in where.split(','))}", "agent")


def reader(folder: Path, where: str = "*.log") -> MariadbLog:
    return MariadbLog.of(told(folder, where), "north", folder / "place", now_ns=lambda: 0)


def everything(log: MariadbLog) -> list[bytes]:
    return [line for batch in log.batches(lambda: False, follow=False) for line in batch]


def flows(lines: Iterable[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def rows(lines: Iterable[bytes], operation: str = "select") -> int:
    return sum(flow.rows for flow in flows(lines) if flow.operation == operation)


def test_the_slow_log_counts_and_the_audit_file_says_who_came_and_who_was_refused(tmp_path: Path) -> None:
    lines = [
        audit("CONNECT"),
        audit("QUERY", text="select lot from lots where id > 0"),
        audit("QUERY", text="select * from wages", code=1142),
    ]
    (tmp_path / "audit.log").write_text("".join([*lines, audit("DISCONNECT"), audit("FAILED_CONNECT", thread=5, user="nobody", code=1045)]))
    (tmp_path / "slow.log").write_text(BANNER + session())
    found = flows(everything(reader(tmp_path)))
    (select,) = [flow for flow in found if flow.operation == "select"]
    assert (select.account, select.account_from, select.rows, select.messages) == ("svc_mw", "server-log", 33, 3)
    assert (select.seen_by, select.depth, select.completeness.state) == ("server-log", "server-log", "complete")
    assert (select.objects[0].names, select.source.address, select.destination.address) == (["mes.lots"], "10.20.1.21", "10.30.0.20")
    assert [(flow.account, flow.objects[0].names if flow.objects else []) for flow in found if flow.operation == "refused"] == [
        ("svc_mw", ["mes.wages"]),
        ("nobody", []),
    ]


def test_rows_of_a_change_are_those_affected_and_those_of_a_replacement_are_unknown(tmp_path: Path) -> None:
    said = [slow("insert into lots select * from more", 0, 25), slow("update lots set part = 'y'", 0, 17)]
    said += [slow("load data local infile '/a' into table lots", 0, 10), slow("delete from lots returning id", 4, 4)]
    (tmp_path / "slow.log").write_text(BANNER + "".join(said) + slow("replace into notes values (1, 2)", 0, 2))
    found = everything(reader(tmp_path))
    assert {one: rows(found, one) for one in ("insert", "update", "copy", "delete", "select")} == {
        "insert": 25, "update": 17, "copy": 10, "delete": 4, "select": 4,
    }  # fmt: skip
    replaced = [flow for flow in flows(found) if any("mes.notes" in part.names for part in flow.objects)]
    assert {flow.completeness.state for flow in replaced} == {"lossy"}


def test_without_the_slow_log_statements_are_told_and_their_rows_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(audit("CONNECT") + audit("QUERY", text="select lot from lots where key = \\'a\\'"))
    (select,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"]
    assert (select.rows, select.messages, select.completeness.state) == (0, 1, "lossy")


def test_tables_and_text_of_the_slow_log_give_the_same_rows_whatever_is_in_a_statement(tmp_path: Path) -> None:
    texts = ["select 'a,\"b\\\\' from lots", "select id\n-- x\n from lots where part = 'a\nb'", "select lot from lots"]
    (tmp_path / "slow_log.CSV").write_text("".join(table(text, 5) for text in texts))
    (tmp_path / "slow.log").write_text(BANNER + "".join(slow(text, 5) for text in texts))
    by_text = everything(reader(tmp_path))
    (tmp_path / "place").unlink()
    by_table = everything(reader(tmp_path, "*.CSV"))
    assert rows(by_text) == rows(by_table) == 15
    assert {flow.statement for flow in flows(by_text)} == {flow.statement for flow in flows(by_table)}


def test_the_general_log_tells_logins_without_tls_and_statements_of_several_lines(tmp_path: Path) -> None:
    lines = ["260407 10:42:08\t     4 Connect\tsvc_mw@10.30.0.20 on mes using TCP/IP", "\t\t     4 Query\tselect id", "-- x", " from lots"]
    lines += ["\t\t     4 Quit\t", "\t\t     5 Connect\tnobody@10.30.0.20 on mes using SSL/TLS"]
    lines += ["\t\t     5 Connect\tAccess denied for user 'nobody'@'10.30.0.20' (using password: YES)"]
    (tmp_path / "general.log").write_text(BANNER + "\n".join(lines) + "\n")
    found = flows(everything(reader(tmp_path)))
    (select,) = [flow for flow in found if flow.operation == "select"]
    assert (select.account, select.objects[0].names, select.protection.transport) == ("svc_mw", ["mes.lots"], "none")
    assert [flow.account for flow in found if flow.operation == "refused"] == ["nobody"]


def test_one_login_told_by_two_files_is_one_session(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(audit("CONNECT") + audit("DISCONNECT"))
    (tmp_path / "general.log").write_text(BANNER + "260407 10:42:08\t     4 Connect\tsvc_mw@10.30.0.20 on mes using TCP/IP\n")
    assert len({flow.flow_id for flow in flows(everything(reader(tmp_path)))}) == 1


def test_mysqls_own_records_are_read(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text(
        "/usr/sbin/mysqld, Version: 8.0.36 (MySQL Community Server - GPL). started with:\nTcp port: 3306  Unix socket: /run/s\n"
        "Time                 Id Command    Argument\n# Time: 2026-04-07T10:42:08.123456Z\n"
        "# User@Host: svc_mw[svc_mw] @  [10.30.0.20]  Id:     8\n"
        f"# Query_time: 0.000300  Lock_time: 0.000002 Rows_sent: 7  Rows_examined: 7\n"
        f"use mes;\nSET timestamp={STAMP};\nselect lot from lots;\n"
    )
    (select,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"]
    assert (select.account, select.rows, select.objects[0].names) == ("svc_mw", 7, ["mes.lots"])


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_of_a_text_that_the_plugin_cut_it_is_known_that_more_may_be_in_it(tmp_path: Path, letter: str) -> None:
    # What came behind it, a UNION, is gone: the plugin counts octets.
    text = f"select lot from lots where part = '{letter * 400}' "
    text += " " * (1_024 - len(text.encode()))
    (tmp_path / "audit.log").write_text(audit("CONNECT") + audit("QUERY", text=text.replace("'", "\\'")))
    (select,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"]
    assert select.objects[0].names == ["mes.lots", "unknown"]


def test_the_port_of_the_audit_file_of_mariadb_12_makes_the_connection_the_taps(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(
        audit("CONNECT", host="10.30.0.20:50123") + audit("QUERY", host="10.30.0.20:50123", text="select 1")
    )
    assert {flow.source.port for flow in flows(everything(reader(tmp_path))) if flow.operation == "connect"} == {50_123}


class Listed:
    """A process list as it is asked for."""

    failure = ""

    def __init__(self, *samples: dict[int, int], partial: bool = False) -> None:
        self._samples, self._partial = list(samples), partial

    def counters(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        self.stopped = True

    def sample(self) -> Sample | None:
        if not self._samples:
            return None
        ports = self._samples.pop(0)
        places = {thread: Place("10.30.0.20", port, "svc_mw", 0, (STAMP - 9) * 10**9) for thread, port in ports.items()}
        return Sample((STAMP + 1) * 10**9, places, self._partial)


def asking(folder: Path, listed: Listed) -> MariadbLog:
    log = reader(folder)
    log._asks = listed  # type: ignore[assignment]  # As it is asked.
    return log


def test_a_port_of_the_process_list_is_the_sessions_and_of_two_sessions_each_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text(BANNER + session(4) + session(5, turns=1) + session(6, turns=1))
    log = asking(tmp_path, Listed({4: 50_004, 5: 50_005}))
    found = {flow.destination.port: flow.rows for flow in flows(everything(log)) if flow.operation == "select"}
    assert found == {50_004: 33, 50_005: 10, 0: 10}
    assert log.counters()["mariadb_log_unplaced"] == 1


def test_a_session_that_says_nothing_is_known_by_the_process_list_alone(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text(BANNER)
    (flow,) = flows(everything(asking(tmp_path, Listed({9: 50_009}))))
    assert (flow.account, flow.source.port, flow.operation, flow.completeness.state) == ("svc_mw", 50_009, "connect", "late")


def test_a_server_that_logs_only_slow_statements_leaves_every_amount_unknown(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text(BANNER + session())
    log = asking(tmp_path, Listed({}, partial=True))
    assert {flow.completeness.state for flow in flows(everything(log)) if flow.operation == "select"} == {"lossy"}
    assert log.counters()["mariadb_log_partial"] == 1


def test_a_statement_that_pretends_to_be_a_record_of_someone_else_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(audit("CONNECT"))
    forged = slow("select 1", 900, user="svc_planner").removesuffix(";\n")
    (tmp_path / "slow.log").write_text(BANNER + slow(f"select 1 /* ;\n{forged} */", 1))
    log = reader(tmp_path)
    assert {flow.account for flow in flows(everything(log))} == {"svc_mw"}
    assert log.counters()["mariadb_log_contradicted"] == 1


def test_no_literal_is_in_an_event_or_in_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "slow.log").write_text(BANNER + session() + slow(f"create user x identified by '{SECRET}'"))
    assert SECRET.encode() not in b"".join(everything(reader(tmp_path)))
    assert SECRET not in (tmp_path / "place").read_text()


def test_a_record_that_cannot_be_read_is_counted_with_its_place_and_is_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(audit("CONNECT") + "20260407 10:42:08,torn\n" + audit("QUERY", text="select 1"))
    log = reader(tmp_path)
    assert [flow.operation for flow in flows(everything(log))]
    assert (log.unreadable, log.example) == (1, f"{tmp_path / 'audit.log'} at byte {len(audit('CONNECT'))}")


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 1_500)
    (tmp_path / "slow.log").write_text(BANNER + "".join(session(thread, 6) for thread in (4, 5, 4, 5)))
    (tmp_path / "audit.log").write_text("".join(audit("CONNECT", thread=thread) + audit("DISCONNECT", thread=thread) for thread in (4, 5)))
    whole = told_once(lambda: reader(tmp_path), tmp_path / "place", kills=16)
    assert rows(whole) == 4 * sum(range(10, 16))


@pytest.mark.parametrize("size", [300, 333, 401])
def test_a_statement_of_several_lines_is_read_whole_wherever_a_piece_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", size)
    lines = [BANNER, "260407 10:42:08\t     4 Connect\tsvc_mw@10.30.0.20 on mes using TCP/IP\n"]
    lines += [f"\t\t     4 Query\tselect lot from lots where id = {n}\nunion\nselect pay from wages\n" for n in range(12)]
    (tmp_path / "general.log").write_text("".join(lines))
    told = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"]
    assert {(*part.names,) for flow in told for part in flow.objects} == {("mes.lots", "mes.wages")}
    assert sum(flow.messages for flow in told) == 12


@pytest.mark.parametrize("size", range(1, 420, 29))
def test_a_last_record_that_is_still_being_written_waits(tmp_path: Path, size: int) -> None:
    text = BANNER + session()
    (tmp_path / "slow.log").write_text(text[:-size])
    first = everything(reader(tmp_path))
    (tmp_path / "slow.log").write_text(text)
    log = reader(tmp_path)
    assert rows([*first, *everything(log)]) == 33
    assert log.unreadable == 0


@pytest.mark.parametrize(
    ("told_", "message"),
    [
        ("mariadb-log:a=10.0.0.1:3306=/x?zone=Mars", "zone 'Mars', expected one such as Europe/Berlin"),
        ("mariadb-log:a=10.0.0.1:3306=/x?zone=Europe", "zone 'Europe', expected one such as Europe/Berlin"),
        ("mariadb-log:a=10.0.0.1:3306=/x?password_file=/y", "are of the account user=, which is not said"),
        ("mariadb-log:a=10.0.0.1:3306=/x?user=u&password_file=/nowhere", "password_file /nowhere: No such file"),
        ("mariadb-log:a=10.0.0.1:3306=/x?user=u&every=0", "expected 0.1 to 3600 seconds"),
        ("mariadb-log:a=10.0.0.1:3306=/nowhere/*.log", "no such file"),
    ],
)
def test_what_is_told_wrongly_is_refused_in_one_line(tmp_path: Path, told_: str, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        MariadbLog.of(Told.of(told_, "agent"), "north", tmp_path / "place")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(FeedError, match="neither server_audit's file nor a slow or general log"):
        reader(tmp_path)
