"""The store at scale: every event once whoever brings it, days of their own, persons hidden, and what was not kept can be brought again."""

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import psycopg
import pytest

from examples.database import Database
from hopwatch.events import Flow, Heartbeat, Loss, dump
from hopwatch.store.postgresql import Connection, Hiding, PostgresStore, Said, StoreAway, StoreRefused, connect, make_day

TODAY = date(2026, 4, 8)
KEY = secrets.token_bytes(32)


def flow(n: int, **said: Any) -> Said:
    event = Flow.model_validate(
        {
            "event_id": f"{n:032x}", "plant": "north", "agent": "tap", "connection": "c", "flow_id": f"{n % 7:032x}", "sequence": n,
            "start": "2026-04-07T10:42:08.5Z", "end": "2026-04-07T10:42:09Z", "source": {"address": "10.0.0.1", "port": 5432},
            "destination": {"address": "10.0.0.2", "port": 50000}, "operation": "select", "depth": "decoded", "account": "svc_mw",
            "rows": 3, "bytes": 900,
        }
        | said
    )  # fmt: skip
    return as_said(event)


def as_said(event: Any) -> Said:
    line = dump(event)
    return Said(line, json.loads(line))


def finding(windows: int, last_seen: str = "2026-04-07T10:42:09Z", **said: Any) -> Said:
    event = {
        "kind": "finding", "event_id": secrets.token_hex(16), "finding_id": "F-1234567890abcdef", "verdict": "undeclared-hop",
        "severity": "critical", "plant": "north", "first_seen": "2026-04-07T10:00:00Z", "last_seen": last_seen, "windows": windows,
        "who": "h.keller", "source": "mes-db", "destination": "10.0.0.9",
    } | said  # fmt: skip
    return Said(json.dumps(event).encode(), event)


@pytest.fixture
def hiding() -> Hiding:
    made = Hiding(KEY)
    made.declare("north", lambda account: account == "svc_mw")
    return made


@pytest.fixture
def store(postgres: str, hiding: Hiding) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres, hiding, today=lambda: TODAY)
    yield made
    made.close()


def rows(address: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(address) as db:
        return db.execute(query.encode()).fetchall()


def test_an_event_brought_again_is_kept_once(store: PostgresStore, postgres: str) -> None:
    events = [flow(n) for n in range(100)]
    assert store.add(events) == 100
    assert store.add([*events[50:], flow(100), flow(100)]) == 1
    assert rows(postgres, "SELECT count(*), sum(row_count), min(start_time) FROM flows") == [(101, 303, "2026-04-07T10:42:08.500000000Z")]


def test_two_programs_that_bring_the_same_events_keep_them_once(store: PostgresStore, postgres: str, hiding: Hiding) -> None:
    other = PostgresStore(postgres, hiding, today=lambda: TODAY)
    assert store.add([flow(n) for n in range(50)]) + other.add([flow(n) for n in range(25, 75)]) == 75
    other.close()


def test_each_day_is_a_table_and_goes_as_a_whole(store: PostgresStore, postgres: str) -> None:
    for day in (1, 5, 7):
        store.add([flow(day * 100 + n, start=f"2026-04-{day:02d}T12:00:00Z", end=f"2026-04-{day:02d}T12:00:01Z") for n in range(3)])
    assert rows(postgres, "SELECT count(*) FROM flows_20260405") == [(3,)]
    assert store.keep_only({"flows": 4}) == {"flows": 1}
    assert [day for (day,) in rows(postgres, "SELECT DISTINCT substr(start_time, 1, 10) FROM flows ORDER BY 1")] == [
        "2026-04-05",
        "2026-04-07",
    ]


def test_what_a_person_did_goes_before_what_a_service_did(store: PostgresStore, postgres: str) -> None:
    old = {"start": "2026-04-01T12:00:00Z", "end": "2026-04-01T12:00:01Z"}
    store.add([flow(1, **old), flow(2, account="h.keller", **old), flow(3, account="h.keller")])
    assert store.keep_only({"flows": 30}, person_days=2) == {"flows of persons": 1}
    assert sorted(rows(postgres, "SELECT sequence FROM flows")) == [(1,), (3,)]


def test_a_clock_far_off_makes_no_tables_and_its_events_are_kept(store: PostgresStore, postgres: str) -> None:
    store.add([flow(n, start=f"20{n:02d}-01-01T00:00:00Z", end=f"20{n:02d}-01-01T00:00:01Z") for n in range(30, 90)])
    assert rows(postgres, "SELECT count(*) FROM flows_other") == [(60,)]
    assert rows(postgres, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'flows'::regclass") == [(1,)]


def test_what_lay_among_the_others_moves_to_its_day(store: PostgresStore, postgres: str, hiding: Hiding) -> None:
    later = {"start": "2027-06-01T00:00:00Z", "end": "2027-06-01T00:00:01Z"}
    store.add([flow(1, **later)])
    other = PostgresStore(postgres, hiding, today=lambda: date(2027, 6, 1))
    assert other.add([flow(1, **later), flow(2, **later)]) == 1
    other.close()
    assert rows(postgres, "SELECT count(*) FROM flows_20270601") == [(2,)]


def test_no_person_is_named_anywhere_and_services_are(store: PostgresStore, postgres: str) -> None:
    store.add([flow(1), flow(2, account="h.keller", application="psql - h.keller"), finding(1)])
    loss = Loss(event_id="l", plant="north", agent="tap", stage="kernel", start="2026-04-07T10:00:00Z", end="2026-04-07T10:00:01Z")
    beat = Heartbeat(event_id="h", plant="north", agent="tap", time="2026-04-07T10:00:00Z")
    assert store.add([as_said(loss), as_said(beat)]) == 2
    kept = str([rows(postgres, f"SELECT * FROM {table}") for table in ("flows", "findings", "finding_events", "losses", "heartbeats")])
    assert "h.keller" not in kept
    assert "svc_mw" in kept
    assert kept.count("person:") >= 4


def test_a_finding_is_its_latest_word_whatever_the_order(store: PostgresStore, postgres: str) -> None:
    store.add([finding(2), finding(7, "2026-04-07T11:00:00Z")])
    store.add([finding(5, "2026-04-07T10:50:00Z", first_seen="2026-04-07T09:00:00Z")])
    store.add([finding(8, "2026-04-07T11:00:00Z")])
    ((first_seen, event),) = rows(postgres, "SELECT first_seen, event FROM findings")
    assert json.loads(event)["windows"] == 8
    assert first_seen == "2026-04-07T10:00:00.000000000Z"
    assert rows(postgres, "SELECT count(*) FROM finding_events") == [(4,)]


def test_names_that_postgresql_cannot_hold_are_kept_as_far_as_it_can(store: PostgresStore, postgres: str) -> None:
    event = flow(1).event | {"account": "a\0b\ud800c"}
    assert store.add([Said(json.dumps(event).encode(), event), finding(1, who="x\0y")]) == 2
    ((kept,),) = rows(postgres, "SELECT event FROM flows")
    assert json.loads(kept)["rows"] == 3


def test_what_means_something_to_copy_is_kept_as_it_was(postgres: str) -> None:
    accounts = ["tab\tbed", "line\nfeed", "back\\slash", r"\N", r"\.", "carriage\rreturn", "grün", "", None]
    clear = Hiding(KEY)
    clear.declare("north", lambda account: True)
    store = PostgresStore(postgres, clear, today=lambda: TODAY)
    events = [flow(n, account=account) for n, account in enumerate(accounts)]
    spread = [Said(said.line.replace(b",", b",\n\t\r", n % 2), said.event) for n, said in enumerate(events)]
    assert store.add(spread) == len(accounts)
    store.close()
    found = rows(postgres, "SELECT account, event FROM flows ORDER BY sequence")
    assert [account for account, _ in found] == accounts
    assert [event.encode() for _, event in found] == [said.line for said in spread]


def test_an_event_without_what_a_column_needs_is_refused_and_nothing_is_kept(store: PostgresStore, postgres: str) -> None:
    broken = {"kind": "flow", "event_id": "1"}
    with pytest.raises(StoreRefused, match="KeyError"):
        store.add([flow(1), Said(json.dumps(broken).encode(), broken)])
    huge = flow(2).event | {"sequence": 2**70}
    with pytest.raises(StoreRefused):
        store.add([flow(1), Said(json.dumps(huge).encode(), huge)])
    assert rows(postgres, "SELECT count(*) FROM flows") == [(0,)]


def test_a_database_that_goes_away_is_said_so_and_takes_the_events_later(store: PostgresStore, postgres: str, server: Database) -> None:
    store.add([flow(1)])
    server.kill()
    try:
        with pytest.raises(StoreAway):
            store.add([flow(2)])
        with pytest.raises(StoreAway):
            store.reconnect()
        with pytest.raises(StoreAway):
            store.add([flow(2)])
    finally:
        server.start()
    store.reconnect()
    assert store.add([flow(1), flow(2)]) == 1


def test_a_day_that_several_make_at_once_is_made_once_and_ends_none_of_them(postgres: str) -> None:
    connections = [connect(postgres, "test") for _ in range(6)]
    together = threading.Barrier(len(connections))

    def make(db: Connection) -> None:
        for number in range(1, 11):
            together.wait()
            make_day(db, "flows", "start_time", f"2026-11-{number:02d}", date(2026, 11, 21))

    with ThreadPoolExecutor(len(connections)) as pool:
        for made in [pool.submit(make, db) for db in connections]:
            made.result(60)
    (count,) = connections[0].execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'flows\\_202611__'").fetchone() or (0,)
    assert count == 10
    for db in connections:
        db.close()
