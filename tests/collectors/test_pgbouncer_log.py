"""PgBouncer's own log names who is before the pool, and whose a connection to the server is where one alone can have it.

The lines are those of a real PgBouncer 1.18 (Debian 12), with names and addresses of the example plant.
"""

from pathlib import Path

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.pgbouncer_log import PgbouncerLog
from hopwatch.events import Flow, parse
from tests.collectors.killing import told_once

POOL, SERVER, CLIENT = "10.30.0.41", ("10.20.1.21", 5432), "10.30.0.20"


def line(second: float, said: str, level: str = "LOG", zone: str = "UTC", pid: int = 411) -> str:
    return f"2026-04-07 10:42:{second:06.3f} {zone} [{pid}] {level} {said}\n"


def client(second: float, said: str, port: int = 41_156, user: str = "svc_a", at: str = "0x5598708348e0", database: str = "mes") -> str:
    return line(second, f"C-{at}: {database}/{user}@{CLIENT}:{port} {said}")


def server(second: float, said: str, user: str = "svc_a", at: str = "0x55987083be20") -> str:
    return line(second, f"S-{at}: mes/{user}@{SERVER[0]}:{SERVER[1]} {said}")


def login(second: float, port: int = 41_156, user: str = "svc_a", at: str = "0x5598708348e0", tls: str = "no") -> str:
    return client(second, f"login attempt: db=mes user={user} tls={tls}", port, user, at)


def dialled(second: float, port: int = 54_862, user: str = "svc_a", at: str = "0x55987083be20") -> str:
    return server(second, f"new connection to server (from {POOL}:{port})", user, at)


UP = line(0, "process up: PgBouncer 1.18.0, libevent 2.1.12-stable (epoll)")
GONE = "closing because: client close request (age=0s)"
LET_GO = "closing because: server idle timeout (age=2s)"


def reader(folder: Path, options: str = "") -> PgbouncerLog:
    said = f"pgbouncer-log:pool-log={POOL}:6432={folder}/*.log{options}"
    return PgbouncerLog.of(Told.of(said, "a"), "north", folder / "place", now_ns=lambda: 0)


def told(folder: Path, *lines: str, options: str = "") -> tuple[PgbouncerLog, list[Flow]]:
    (folder / "a.log").write_text("".join(lines))
    log = reader(folder, options)
    events = [parse(event) for batch in log.batches(lambda: False, follow=False) for event in batch]
    return log, [event for event in events if isinstance(event, Flow)]


def legs(flows: list[Flow]) -> dict[tuple[str, int], list[str | None]]:
    """By the end that dialled: for whom, in order."""
    found: dict[tuple[str, int], list[str | None]] = {}
    for flow in flows:
        assert isinstance(flow.on_behalf_of, str | None)
        found.setdefault((flow.source.address, flow.source.port), []).append(flow.on_behalf_of)
    return found


def test_a_client_is_told_with_its_account_its_tls_and_the_server_that_its_database_is_on(tmp_path: Path) -> None:
    lines = [login(1, tls="TLSv1.3/TLS_AES_256_GCM_SHA384"), dialled(1.02), client(5, GONE), server(5, LET_GO)]
    _, flows = told(tmp_path, *lines)
    first, before = [flow for flow in flows if flow.source.address == CLIENT]
    # Where the pool goes it says when it dials.
    assert first.destination.names == []
    assert (before.source.port, before.destination.address, before.destination.port) == (41_156, POOL, 6432)
    assert (before.account, before.account_from, before.seen_by, before.operation) == ("svc_a", "proxy-log", "proxy-log", "connect")
    assert (before.protection.transport, before.protection.cipher) == ("tls1.3", "TLS_AES_256_GCM_SHA384")
    assert [(name.name, name.port, name.by) for name in before.destination.names] == [(*SERVER, "connect")]


def test_a_connection_to_the_server_is_for_the_only_client_there_is_and_after_it_for_nobody(tmp_path: Path) -> None:
    _, flows = told(tmp_path, UP, login(1), dialled(1.02), client(5, GONE), server(9, LET_GO))
    behind = [flow for flow in flows if flow.source.address == POOL]
    assert {(flow.source.port, flow.destination.address, flow.account) for flow in behind} == {(54_862, SERVER[0], "svc_a")}
    assert legs(behind)[POOL, 54_862] == [f"{CLIENT}:41156", None]


def test_of_two_clients_of_one_pool_none_is_named_until_one_is_left(tmp_path: Path) -> None:
    other = {"port": 41_160, "at": "0x559870834680"}
    log, flows = told(tmp_path, UP, login(1), dialled(1.02), login(2, **other), client(3, GONE))  # type: ignore[arg-type]  # a port and a place
    assert legs(flows)[POOL, 54_862] == [f"{CLIENT}:41156", None, f"{CLIENT}:41160"]
    log, _ = told(tmp_path, login(1), dialled(1.02), login(2, **other))  # type: ignore[arg-type]  # as above
    (tmp_path / "place").unlink()
    log = reader(tmp_path)
    list(log.batches(lambda: False, follow=False))
    assert log.counters()["pgbouncer_log_ambiguous"] == 1


@pytest.mark.parametrize("before", ["", UP + line(0.5, "disko over, going background")])
def test_where_clients_may_be_that_no_line_told_of_nobody_is_the_only_one(tmp_path: Path, before: str) -> None:
    _, flows = told(tmp_path, before, login(1), dialled(1.02))
    assert legs(flows)[POOL, 54_862] == [None]


def test_pools_of_other_accounts_are_not_mixed_up(tmp_path: Path) -> None:
    lines = [UP, login(1), dialled(1.02), login(2, 41_164, "svc_b", "0x1"), dialled(2.02, 54_872, "svc_b", "0x2")]
    _, flows = told(tmp_path, *lines)
    assert legs(flows)[POOL, 54_862] == [f"{CLIENT}:41156"]
    assert legs(flows)[POOL, 54_872] == [f"{CLIENT}:41164"]


@pytest.mark.parametrize("why", ["SASL authentication failed", "no such database: nope", "no more connections allowed (max_client_conn)"])
def test_a_login_that_was_refused_names_who_tried(tmp_path: Path, why: str) -> None:
    _, flows = told(tmp_path, login(1), client(1.1, f"closing because: {why} (age=0s)"))
    assert {(flow.operation, flow.account) for flow in flows} == {("connect", "svc_a"), ("refused", "svc_a")}


def test_a_name_that_looks_like_the_rest_of_a_line_names_nobody(tmp_path: Path) -> None:
    forged = f"mes/x@10.9.9.9:1 login attempt: db=mes user=x tls=no@{CLIENT}:41156 login attempt: db=mes user=x tls=no"
    log, flows = told(tmp_path, line(1, f"C-0x1: {forged}"), client(2, "login attempt: db=mes user=svc_b tls=no"))
    assert [(flow.source.port, flow.account) for flow in flows] == [(41_156, None)]
    assert log.counters()["pgbouncer_log_forged"] == 1


def test_a_process_that_begins_has_no_connections_of_the_one_before(tmp_path: Path) -> None:
    log, flows = told(tmp_path, login(1), dialled(1.02), line(9, "process up: PgBouncer 1.18.0, libevent 2.1.12-stable (epoll)", pid=412))
    assert log.counters()["pgbouncer_log_sessions"] == 0
    assert {flow.source.address for flow in flows if flow.final} == {CLIENT, POOL}


def test_statistics_are_counted_over_the_time_between_two_of_them(tmp_path: Path) -> None:
    said = "stats: 3 xacts/s, 7 queries/s, in {} B/s, out {} B/s, xact 0 us, query 8682 us, wait 100164 us"
    log, flows = told(tmp_path, line(0, said.format(9, 9)), line(10, said.format(119, 8667)), login(11))
    assert (log.counters()["pgbouncer_log_stats_bytes_in"], log.counters()["pgbouncer_log_stats_bytes_out"]) == (1_190, 86_670)
    assert sum(flow.bytes for flow in flows) == 0


def test_a_client_that_came_before_the_log_is_told_late_and_a_server_connection_counted(tmp_path: Path) -> None:
    log, flows = told(tmp_path, client(5, GONE), server(5, LET_GO))
    assert [(flow.account, flow.completeness.state) for flow in flows] == [("svc_a", "late")]
    assert log.counters()["pgbouncer_log_unplaced"] == 1


def test_a_clock_that_is_not_utc_is_told_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line(1, "process up: x", zone="CEST"))
    with pytest.raises(FeedError, match="its clock is CEST"):
        reader(tmp_path)
    _, flows = told(tmp_path, login(1).replace("UTC", "CEST"), options="?zone=Europe/Berlin")
    assert flows[0].start == "2026-04-07T08:42:01Z"


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("May  1 10:00:00 pool pgbouncer[411]: C-0x1: x\n")
    with pytest.raises(FeedError, match="no log of PgBouncer"):
        reader(tmp_path)


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 250)
    day = [UP]
    for turn in range(12):
        at, port, key = 1 + 4 * turn, 41_000 + turn, f"0x55{turn:02x}"
        day += [login(at, port, at=key), dialled(at + 0.1, 54_000 + turn, at=f"{key}aa")]
        # From now on the connection to the server may be another's: it has a second window.
        day += [login(at + 1.5, port + 100, at=f"{key}bb"), client(at + 2, GONE, port + 100, at=f"{key}bb")]
        day += [server(at + 3, LET_GO, at=f"{key}aa"), client(at + 3.5, GONE, port, at=key)]
    (tmp_path / "a.log").write_text("".join(day))
    whole = told_once(lambda: reader(tmp_path), tmp_path / "place", kills=30)
    assert sum('"sequence":1,' in line.decode() for line in whole) >= 12
