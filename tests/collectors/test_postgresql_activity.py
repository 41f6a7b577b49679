"""Looks at a PostgreSQL server become sessions and estimated rows, once, whoever is killed."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from collectors.feed import FeedError, Told
from collectors.postgresql_activity import CLOCK, COUNTS, KNOWN, SESSIONS, Look, PostgresqlActivity
from collectors.records import Json
from collectors.statements import STATEMENT_BYTES_MAX
from hopwatch.events import Flow, parse

BEGAN_US = 1_775_558_528_000_000
SELECT = ["select", "server", ["mes.lots"], ["id"], "a" * 32, []]


class Looks:
    """What is seen, look by look."""

    failure = ""

    def __init__(self, *looks: Json) -> None:
        self._looks = list(looks)

    def counters(self) -> dict[str, int]:
        return {"polls": 0, "polls_failed": 0}

    def stop(self) -> None:
        self.stopped = True

    def newest(self) -> Json | None:
        return self._looks.pop(0) if self._looks else None


def session(pid: int, user: str = "svc_mw", address: str = "10.30.0.20", began_s: float = 0.0, tls: str | None = "TLSv1.3") -> list[Any]:
    return [pid, user, "extract/1.4", address, 50_000 + pid, "mes", BEGAN_US + int(began_s * 1e6), tls, None]


def look(second: float, *sessions: list[Any], counts: list[list[Any]] | None = None) -> Json:
    return {"time_ns": (BEGAN_US + int(second * 1e6)) * 1_000, "sessions": list(sessions), "counts": counts}


def count(calls: int, rows: int, user: str = "svc_mw", number: int = 7) -> list[Any]:
    return [user, 5, number, calls, rows, SELECT]


def feed(folder: Path, *looks: Json) -> PostgresqlActivity:
    told = Told.of("postgresql-activity:mes-db-log=10.20.1.21:5432=mes?user=hopwatch", "agent")
    activity = PostgresqlActivity.of(told, "north", folder / "place", lambda: 0)
    activity._asks = Looks(*looks)  # type: ignore[assignment]  # As it is asked.
    return activity


def everything(found: PostgresqlActivity, looks: int = 99) -> list[bytes]:
    told: list[bytes] = []
    for turn, batch in enumerate(found.batches(lambda: False, follow=True, sleep=lambda seconds: None)):
        if turn >= looks or not batch:
            break
        told += batch
    return told


def flows(lines: list[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def test_a_session_is_told_from_its_beginning_with_account_port_and_protection(tmp_path: Path) -> None:
    looks = [look(0, session(9)), look(1, session(9), session(1, began_s=0.4)), look(2, session(9))]
    found = [flow for flow in flows(everything(feed(tmp_path, *looks))) if flow.source.port == 50_001]
    first = found[0]
    assert (first.account, first.account_from, first.application, first.operation) == ("svc_mw", "server-log", "extract/1.4", "connect")
    assert (first.start, first.protection.transport, first.completeness.state) == ("2026-04-07T10:42:08.400Z", "tls1.3", "complete")
    assert found[-1].final


def test_a_session_that_was_there_before_is_late(tmp_path: Path) -> None:
    (flow,) = flows(everything(feed(tmp_path, look(0, session(1, began_s=-900)))))
    assert (flow.completeness.state, flow.start) == ("late", "2026-04-07T10:42:08Z")


def test_rows_between_two_looks_are_the_sessions_and_estimated(tmp_path: Path) -> None:
    looks = [look(0, session(1), counts=[count(100, 9_000)]), look(1, session(1), counts=[count(103, 9_120)])]
    (select,) = [flow for flow in flows(everything(feed(tmp_path, *looks))) if flow.operation == "select"]
    assert (select.rows, select.messages, select.destination.port, select.completeness.estimated) == (120, 3, 50_001, True)


def test_rows_of_several_sessions_of_one_address_are_of_no_connection(tmp_path: Path) -> None:
    looks = [look(0, session(1), session(2), counts=[count(1, 1)]), look(1, session(1), session(2), counts=[count(2, 41)])]
    (select,) = [flow for flow in flows(everything(feed(tmp_path, *looks))) if flow.operation == "select"]
    assert (select.rows, select.destination.address, select.destination.port) == (40, "10.30.0.20", 0)


def test_rows_of_sessions_of_several_addresses_are_nobodys_and_every_window_is_lossy(tmp_path: Path) -> None:
    both = (session(1), session(2, address="10.30.0.21"))
    found = feed(tmp_path, look(0, *both, counts=[count(1, 1)]), look(1, *both, counts=[count(2, 41)]))
    told = [flow for flow in flows(everything(found)) if flow.operation == "select"]
    assert [(flow.rows, flow.completeness.state) for flow in told] == [(0, "lossy")] * 2
    assert found.counters()["postgresql_activity_rows_unplaced"] == 40


def test_counts_that_were_reset_are_not_taken_away_and_new_ones_count_from_nothing(tmp_path: Path) -> None:
    one = session(1)
    looks = [
        look(0, one, counts=[count(50, 500)]),
        look(1, one, counts=[count(2, 20)]),
        look(2, one, counts=[count(2, 20), count(1, 5, number=8)]),
    ]
    found = feed(tmp_path, *looks)
    assert sum(flow.rows for flow in flows(everything(found))) == 25
    assert found.counters()["postgresql_activity_resets"] == 1


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    looks = [look(n, session(1), *([session(2, began_s=1.5)] if n > 1 else []), counts=[count(n, 10 * n)]) for n in range(8)]
    whole = everything(feed(tmp_path, *looks))
    assert sum(flow.rows for flow in flows(whole)) == 70
    for killed_at in range(1, 8):
        (tmp_path / "place").unlink()
        told: list[bytes] = []
        for turn, batch in enumerate(feed(tmp_path, *looks).batches(lambda: False, follow=True, sleep=lambda seconds: None)):
            if turn == killed_at:
                told += batch if killed_at % 2 else []
                break
            told += batch
        # What came while nobody looked is in the counts of the next look.
        told += everything(feed(tmp_path, *looks[killed_at + 1 :])) if killed_at < 7 else everything(feed(tmp_path))
        assert list(dict.fromkeys(told)) == whole, f"killed after {killed_at} looks"


def test_of_a_statement_longer_than_is_read_it_is_known_that_more_may_be_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"SELECT id FROM mes.lots WHERE id IN ({'1,' * (STATEMENT_BYTES_MAX // 2)}1) UNION SELECT id FROM mes.orders"
    answers = {KNOWN: [(1,)], CLOCK: [(BEGAN_US,)], SESSIONS: [], COUNTS: [("svc_mw", 5, 7, True, 1, 10, text)]}

    class Server:
        def execute(self, asked: str) -> "Server":
            self._rows = answers.get(asked, [])
            return self

        def fetchall(self) -> list[Any]:
            return self._rows

        def fetchone(self) -> Any:
            return self._rows[0]

    monkeypatch.setattr(psycopg, "connect", lambda **_: Server())
    ((*_, (operation, _, names, *_)),) = Look({}).look()["counts"]
    assert (operation, names) == ("select", ["mes.lots", "unknown"])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("10.20.1.21:5432=mes", "an account with the role pg_monitor"),
        ("10.20.1.21:5432=mes?user=u&every=0", "expected 0.1 to 3600 seconds"),
        ("10.20.1.21:5432=mes?user=u&password_file=/nowhere", "password_file /nowhere: No such file"),
    ],
)
def test_what_is_told_wrongly_is_refused_in_one_line(tmp_path: Path, where: str, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        PostgresqlActivity.of(Told.of(f"postgresql-activity:a={where}", "agent"), "north", tmp_path / "place")
