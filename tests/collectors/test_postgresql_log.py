"""A server's log becomes flows, once, whatever happens to the log or to whoever reads it.

The records are those of a real PostgreSQL 15.18 with pgAudit 1.7.0, shortened; addresses and names are of the example plant.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.postgresql_log import PostgresqlLog, _cut_csv
from hopwatch.events import Flow, Loss, parse
from tests.collectors.killing import told_once

CLIENT, SERVER = ("10.30.0.20", 50_001), ("10.20.1.21", 5432)
SECRET = "hunter2"
Line = dict[str, Any]  # Any: JSON values


def said(number: int, message: str, *, user: str | None = "svc_mw", port: int = 50_001, severity: str = "LOG", **more: Any) -> Line:
    """A record as jsonlog writes it."""
    who = {"user": user, "dbname": "mes"} if user else {}
    where = {"remote_host": CLIENT[0], "remote_port": port, "session_id": f"6b025f18.{port:x}", "line_num": number}
    what = {"error_severity": severity, "message": message, "application_name": "extract/1.4"}
    return {"timestamp": f"2026-04-07 10:42:08.{number:03d} UTC"} | who | {"pid": 411} | where | what | more


def login(port: int = 50_001) -> list[Line]:
    tls = "SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)"
    return [
        said(1, f"connection received: host={CLIENT[0]} port={port}", user=None, port=port),
        said(2, 'connection authenticated: identity="svc_mw" method=scram-sha-256 (/etc/pg_hba.conf:87)', port=port),
        said(3, f"connection authorized: user=svc_mw database=mes application_name=extract/1.4 {tls}", port=port),
    ]


def asked(number: int, text: str, rows: int, *, command: str = "SELECT", port: int = 50_001, relation: str = "mes.lots") -> list[Line]:
    """A statement and pgAudit's line about it."""
    fields = io.StringIO()
    kind = "READ" if command == "SELECT" else "WRITE"
    type_ = "TABLE" if relation else ""
    csv.writer(fields, lineterminator="").writerow(["SESSION", number, 1, kind, command, type_, relation, text, "<not logged>", rows])
    return [said(number, f"statement: {text}", port=port), said(number + 1, f"AUDIT: {fields.getvalue()}", port=port)]


def goodbye(number: int, port: int = 50_001) -> Line:
    return said(number, "disconnection: session time: 0:00:00.119 user=svc_mw database=mes", port=port)


def session(port: int = 50_001, turns: int = 3) -> list[Line]:
    lines = login(port)
    for turn in range(turns):
        lines += asked(4 + 2 * turn, f"select lot from lots where id > {turn} and key = '{SECRET}'", 10 + turn, port=port)
    return [*lines, goodbye(4 + 2 * turns, port)]


def as_json(lines: Sequence[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def as_csv(lines: Sequence[Line]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in lines:
        where = f"{line['remote_host']}:{line['remote_port']}"
        head = [line["timestamp"], line.get("user"), "mes", 411, where, line["session_id"], line["line_num"], "", "", "", 0]
        tail_ = ["", "", "", "", "", line.get("statement", ""), "", "", line["application_name"], "client backend", "", 0]
        writer.writerow([*head, line["error_severity"], line.get("state_code", "00000"), line["message"], *tail_])
    return out.getvalue()


def server(pattern: Path, address: str = f"{SERVER[0]}:{SERVER[1]}") -> Told:
    return Told.of(f"postgresql-log:mes-db-log={address}={pattern}", "agent")


def reader(tmp_path: Path, pattern: str = "*.json") -> PostgresqlLog:
    return PostgresqlLog.of(server(tmp_path / pattern), "north", tmp_path / "place", now_ns=lambda: 0)


def batches(log: PostgresqlLog) -> Iterator[list[bytes]]:
    return log.batches(lambda: False, follow=False)


def everything(log: PostgresqlLog) -> list[bytes]:
    return [line for batch in batches(log) for line in batch]


def flows(lines: Sequence[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def rows(lines: Sequence[bytes]) -> int:
    return sum(flow.rows for flow in flows(lines) if flow.operation == "select")


def test_a_session_is_told_with_its_account_its_protection_and_the_rows_that_pgaudit_counted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(as_json(session()))
    told = flows(everything(reader(tmp_path)))
    (select,) = [flow for flow in told if flow.operation == "select"]
    assert (select.account, select.account_from, select.application) == ("svc_mw", "server-log", "extract/1.4")
    assert (select.rows, select.messages, select.bytes, select.completeness.state) == (33, 3, 0, "complete")
    assert (select.protection.transport, select.protection.authentication) == ("tls1.3", "scram-sha-256")
    assert (select.seen_by, select.depth, select.agent) == ("server-log", "server-log", "mes-db-log")
    assert select.objects[0].names == ["mes.lots"]  # As pgAudit has it; the text said lots.
    assert (select.source.address, select.destination.port, select.opened_by) == (SERVER[0], CLIENT[1], "destination")


def test_csvlog_and_jsonlog_give_the_same_events(tmp_path: Path) -> None:
    lines = [*session(), *session(50_002)]
    (tmp_path / "a.json").write_text(as_json(lines))
    (tmp_path / "a.csv").write_text(as_csv(lines))
    of_json = everything(reader(tmp_path))
    (tmp_path / "place").unlink()
    assert everything(reader(tmp_path, "*.csv")) == of_json


def test_lines_of_a_statement_are_looked_at_once_however_many_there_are() -> None:
    class Counting(bytes):
        looked = 0

        def count(self, *where: Any) -> int:
            Counting.looked += where[2] - where[1]
            return super().count(*where)

    records = as_csv(session()).encode()
    content = Counting(records + b'2026-04-07 10:42:09.000 UTC,"svc_mw","select\n' + b"\n" * 10_000)
    assert _cut_csv(content) == len(records)
    assert Counting.looked <= 2 * len(content)
    for size in range(len(records)):
        whole = [at for at in range(size) if records[at : at + 1] == b"\n" and records.count(b'"', 0, at) % 2 == 0]
        assert _cut_csv(records[:size]) == (whole[-1] + 1 if whole else 0)


def test_no_literal_is_in_an_event_or_in_what_is_kept(tmp_path: Path) -> None:
    broken = said(12, "syntax error", severity="ERROR", state_code="42601", statement=f"select '{SECRET}' from")
    password = said(13, f"statement: create role x login password '{SECRET}'")
    (tmp_path / "a.json").write_text(as_json([*session()[:-1], said(11, f"statement: select '{SECRET}' from"), broken, password]))
    events = everything(reader(tmp_path))
    assert SECRET.encode() not in b"".join(events)
    assert SECRET not in (tmp_path / "place").read_text()


@pytest.mark.parametrize("text", ["copy lots to stdout", "copy lots from stdin", 'FETCH FORWARD 10 FROM "cc"'])
def test_what_pgaudit_calls_no_rows_is_said_to_be_unknown(tmp_path: Path, text: str) -> None:
    command = text.split(maxsplit=1)[0].upper()
    (tmp_path / "a.json").write_text(as_json([*login(), *asked(4, text, 0, command=command, relation=""), goodbye(6)]))
    log = reader(tmp_path)
    moved = [flow for flow in flows(everything(log)) if flow.operation in ("copy", "select")]
    assert [(flow.rows, flow.completeness.state) for flow in moved] == [(0, "lossy")]
    assert log.counters()["postgresql_log_holes"] == 1


def test_copied_rows_are_counted_where_pgaudit_counts_them_and_then_none_are_none(tmp_path: Path) -> None:
    lines = [*login(), *asked(4, "copy lots to stdout", 7, command="COPY"), *asked(6, "copy none to stdout", 0, command="COPY"), goodbye(8)]
    (tmp_path / "a.json").write_text(as_json(lines))
    (copied,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "copy"]
    assert (copied.rows, copied.completeness.state) == (7, "complete")


def test_rows_that_no_line_told_are_not_invented(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(as_json([*login(), said(4, "execute <unnamed>: select lot from lots where id = $1"), goodbye(5)]))
    (select,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"]
    assert (select.rows, select.messages, select.completeness.state) == (0, 1, "lossy")


def test_a_statement_that_failed_before_it_moved_anything_is_no_loss(tmp_path: Path) -> None:
    wrong = said(5, "permission denied for table lots", severity="ERROR", state_code="42501", statement="select * from lots")
    (tmp_path / "a.json").write_text(as_json([*login(), said(4, "statement: select * from lots"), wrong, goodbye(6)]))
    told = {flow.operation: flow for flow in flows(everything(reader(tmp_path)))}
    assert set(told) == {"connect", "refused"}
    assert told["refused"].objects[0].names == ["lots"]


@pytest.mark.parametrize(
    ("logged", "state", "text"),
    [
        ("statement", "42601", "select 'x"),
        ("statement", "42601", "select lot from lots where id in (1, 2,)"),
        ("execute <unnamed>", "22P02", "select lot from lots where id in ('x', 2)"),
        ("execute <unnamed>", "42501", "select lot from lots where id in (1, 2)"),
        ("duration: 0.1 ms  statement", "57014", "select lot from lots where id in (1, 2)"),
    ],
)
def test_an_error_is_not_that_of_a_statement_that_has_succeeded(tmp_path: Path, logged: str, state: str, text: str) -> None:
    lines = [*login(), said(4, f"{logged}: select lot from lots where id in (1, 2)")]
    lines += [said(5, "an error", severity="ERROR", state_code=state, statement=text), goodbye(6)]
    (tmp_path / "a.json").write_text(as_json(lines))
    log = reader(tmp_path)
    (select,) = [flow for flow in flows(everything(log)) if flow.operation == "select"]
    assert (select.messages, select.completeness.state, log.counters()["postgresql_log_rows_unknown"]) == (1, "lossy", 1)


@pytest.mark.parametrize(
    ("failed", "role"), [("selec", "planner"), ("set role planner", None), ("set role planner; select 1/0", None)], ids=str
)
def test_a_role_is_unset_by_the_failure_of_what_set_it_alone(tmp_path: Path, failed: str, role: str | None) -> None:
    lines = [*login(), said(4, "statement: " + (failed if "role" in failed else "set role planner"))]
    lines += [said(5, "an error", severity="ERROR", state_code="22012" if "1/0" in failed else "42601", statement=failed)]
    (tmp_path / "a.json").write_text(as_json([*lines, *asked(6, "select lot from lots", 1), goodbye(8)]))
    assert {flow.role for flow in flows(everything(reader(tmp_path))) if flow.rows} == {role}


def test_a_refused_login_names_who_tried(tmp_path: Path) -> None:
    first = login()[0]
    refused = said(2, 'password authentication failed for user "svc_mw"', severity="FATAL", state_code="28P01")
    (tmp_path / "a.json").write_text(as_json([first, refused]))
    (flow,) = flows(everything(reader(tmp_path)))
    assert (flow.operation, flow.account, flow.messages) == ("refused", "svc_mw", 1)


def test_a_role_set_in_a_transaction_that_is_undone_is_not_worn_after_it(tmp_path: Path) -> None:
    lines = [*login(), said(4, "statement: BEGIN"), said(5, "statement: set role planner")]
    lines += [*asked(6, "select lot from lots", 1), said(8, "statement: ROLLBACK"), *asked(9, "select lot from lots", 2), goodbye(11)]
    (tmp_path / "a.json").write_text(as_json(lines))
    assert {flow.role: flow.rows for flow in flows(everything(reader(tmp_path))) if flow.operation == "select"} == {"planner": 1, None: 2}


def test_roles_made_and_granted_are_told_in_the_words_of_the_contract(tmp_path: Path) -> None:
    lines = [*login(), said(4, "statement: create role intruder login"), said(5, "statement: grant planner to intruder"), goodbye(6)]
    (tmp_path / "a.json").write_text(as_json(lines))
    (admin,) = [flow for flow in flows(everything(reader(tmp_path))) if flow.operation == "admin"]
    assert [(part.names, part.columns) for part in admin.objects] == [
        (["account:intruder"], ["create", "grant:login"]),
        (["account:intruder"], ["grant:planner"]),
    ]


def test_a_line_that_cannot_be_read_is_counted_with_its_place_and_is_not_fatal(tmp_path: Path) -> None:
    lines = as_json(session()).splitlines(keepends=True)
    torn = '{"timestamp": \n'
    (tmp_path / "a.json").write_text("".join([*lines[:4], torn, "[]\n", *lines[4:]]))
    log = reader(tmp_path)
    assert rows(everything(log)) == 33
    assert log.counters()["postgresql_log_unreadable"] == 2
    assert log.example == f"{tmp_path / 'a.json'} at byte {len(''.join([*lines[:4], torn]))}"


def test_lines_missing_inside_a_session_are_said_by_their_numbers(tmp_path: Path) -> None:
    lines = session()
    (tmp_path / "a.json").write_text(as_json([*lines[:5], *lines[7:]]))
    log = reader(tmp_path)
    told = flows(everything(log))
    assert log.counters()["postgresql_log_missing"] == 2
    assert "lossy" in {flow.completeness.state for flow in told}


def test_a_last_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.json", as_json(session())
    whole_events = []
    for size in range(len(whole) - 400, len(whole)):
        path.write_text(whole[:size])
        (tmp_path / "place").unlink(missing_ok=True)
        log = reader(tmp_path)
        first = everything(log)
        with path.open("a") as file:
            file.write(whole[size:])
        whole_events.append(rows([*first, *everything(reader(tmp_path))]))
        assert log.counters().get("postgresql_log_unreadable", 0) == 0
    assert set(whole_events) == {33}


def test_rotation_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, lines = tmp_path / "a.json", as_json(session()).splitlines(keepends=True)
    path.write_text("".join(lines[:5]))
    told = everything(reader(tmp_path))
    with path.open("a") as file:
        file.write("".join(lines[5:7]))
    path.rename(tmp_path / "a.1.json")
    path.write_text("".join(lines[7:]))
    told += everything(reader(tmp_path))
    assert rows(told) == 33


def test_a_file_that_begins_anew_in_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(as_json(session()))
    told = everything(reader(tmp_path))
    path.write_text(as_json(session(50_002, turns=9)))
    log = reader(tmp_path)
    assert rows([*told, *everything(log)]) == 33 + sum(range(10, 19))
    assert log.counters()["postgresql_log_truncated"] == 1


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 1_000)
    text = as_json([line for lines in zip(session(turns=9), session(50_002, turns=9), strict=True) for line in lines])
    (tmp_path / "a.json").write_text(text)
    whole = told_once(lambda: reader(tmp_path), tmp_path / "place", kills=30)
    assert len(whole) > 12


def test_a_log_that_grows_while_its_reader_is_killed_is_told_once(tmp_path: Path) -> None:
    lines = as_json([line for lines in zip(session(turns=9), session(50_002, turns=9), strict=True) for line in lines]).splitlines(
        keepends=True
    )
    for killed_at in range(8):
        path = tmp_path / f"{killed_at}.log.json"
        path.write_text("".join(lines[:9]))
        source, place = server(path), tmp_path / f"place-{killed_at}"
        written, told = 9, []
        log = PostgresqlLog.of(source, "north", place, now_ns=lambda: 0)
        for turn, batch in enumerate(batches(log)):
            told += batch
            if turn == killed_at:
                break
            with path.open("a") as file:
                file.write("".join(lines[written : written + 3]))
            written += 3
        with path.open("a") as file:
            file.write("".join(lines[written:]))
        told += everything(PostgresqlLog.of(source, "north", place, now_ns=lambda: 0))
        once = list(dict.fromkeys(told))
        assert len({event.event_id for event in flows(once)}) == len(once)
        assert rows(once) == 2 * sum(range(10, 19)), f"killed after {killed_at} batches"


def test_a_log_that_is_gone_unread_is_a_loss(tmp_path: Path) -> None:
    path, lines = tmp_path / "a.json", session()
    path.write_text(as_json(lines[:5]))
    everything(reader(tmp_path))
    path.unlink()
    (tmp_path / "b.json").write_text(as_json(lines[7:]))
    events = [parse(line) for line in everything(reader(tmp_path))]
    (loss,) = [event for event in events if isinstance(event, Loss)]
    assert (loss.stage, loss.agent, loss.events) == ("collector", "mes-db-log", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2026-04-07 10:42:08.026 UTC [411] LOG:  statement: select 1\n", "neither csvlog nor jsonlog"),
        ('{"timestamp":"2026-04-07 10:42:08.026 CEST","pid":1}\n', "set log_timezone = 'UTC'"),
    ],
)
def test_another_format_is_refused_with_what_to_set(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(FeedError, match=message):
        reader(tmp_path)


def test_no_file_and_a_place_of_another_log_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="no such file"):
        reader(tmp_path)
    (tmp_path / "a.json").write_text(as_json(session()))
    everything(reader(tmp_path))
    other = Told.of(f"postgresql-log:other-log={SERVER[0]}:{SERVER[1]}={tmp_path}/*.json", "agent")
    with pytest.raises(FeedError, match="expected \\['north', 'other-log'"):
        PostgresqlLog.of(other, "north", tmp_path / "place")
