"""The alert book on both databases: nothing lost, nothing twice, and one transaction for everything a step writes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from said import DAY, HOUR, MINUTE, NOW_NS, SECOND, at, decision, finding

from alerts import book as books
from alerts.book import AlertQuery, Book, book
from alerts.desk import ALIKE_MAX, DecisionRefused, alert_id
from alerts.outbox import letter, open_outbox
from hopwatch.events import Alert, Finding, dump
from hopwatch.store import IdUnknown, StoreFull
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.postgresql import Hiding, PostgresStore, Said

A1 = alert_id(finding(1).finding_id)
KEY = b"k" * 32


class House:
    """A store, its alert book, and a clock that the test turns."""

    def __init__(self, address: str, add: Callable[..., None]) -> None:
        self.address, self.add = address, add
        self.now_ns = NOW_NS
        self.book = self.opened()

    def opened(self) -> Book:
        made = book(self.address)
        made.letters = lambda event: [letter("siem", event)]
        return made

    def found(self, *findings: Finding, after: int = 0) -> None:
        self.add(*findings)
        self.step(after)

    def step(self, after: int = 0) -> None:
        self.now_ns += after
        while self.book.step(self.now_ns) == books.BATCH_FINDINGS:
            pass

    def decide(self, action: str, alert: str | None = None, **more: Any) -> list[Alert]:
        return self.book.decide(decision(action, alert, self.now_ns - NOW_NS, **more))

    def queued(self) -> list[dict[str, Any]]:
        outbox = open_outbox(self.address if "://" in self.address else f"{self.address}.alerts")
        try:
            return [json.loads(one.line) for one in outbox.waiting("siem", 1_000)]
        finally:
            outbox.close()


@pytest.fixture(params=["embedded", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    if request.param == "embedded":
        path = tmp_path / "plant.db"
        embedded = EmbeddedStore(path, is_clear=lambda account: account.startswith("svc_"))

        def add(*findings: Finding, heartbeats: tuple[dict[str, Any], ...] = ()) -> None:
            embedded.add(findings=[one.model_dump() for one in findings], heartbeats=heartbeats)

        made = House(str(path), add)
        yield made
        embedded.close()
    else:
        address = request.getfixturevalue("postgres")
        hiding = Hiding(KEY)
        hiding.declare("north", lambda account: account.startswith("svc_"))
        store = PostgresStore(address, hiding)

        def add_there(*findings: Finding, heartbeats: tuple[dict[str, Any], ...] = ()) -> None:
            events = [Said(dump(one), one.model_dump()) for one in findings]
            store.add([*events, *(Said(json.dumps(one).encode(), one) for one in heartbeats)])

        made = House(address, add_there)
        yield made
        store.close()
    made.book.close()


def beat(agent: str, time: str) -> dict[str, Any]:
    return {"kind": "heartbeat", "event_id": f"{agent}/{time}", "plant": "north", "agent": agent, "time": time}


def test_findings_become_alerts_once_however_often_they_are_read(house: House) -> None:
    house.found(finding(1), finding(2, "dump", who="svc_dump"))
    house.step(SECOND)
    house.book.close()
    house.book = house.opened()
    house.step(SECOND)
    assert {one["finding"]["finding_id"] for one in house.book.alerts()} == {finding(1).finding_id, finding(2).finding_id}
    assert [one["change"] for one in house.book.revisions(A1)] == ["raised"]
    house.found(finding(1), after=SECOND)
    assert len(house.book.revisions(A1)) == 1


def test_only_what_changed_is_read_again(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 50)))
    house.add(finding(3, word=1, seen=MINUTE, severity="critical"))
    changed, _ = house.book._changed(house.book._state()["place"], 1_000)
    assert finding(3).finding_id in {json.loads(one)["finding_id"] for one in changed}
    house.step(MINUTE)
    assert house.book.alert(alert_id(finding(3).finding_id))["severity"] == "critical"
    assert house.book.counted()["findings"] <= 2 * 49 + 1


def test_a_step_writes_alert_revision_place_and_letter_together_or_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.found(finding(1))

    class Cut(Exception):
        pass

    def cut(*arguments: Any, **named: Any) -> int:
        raise Cut

    house.add(finding(2))
    monkeypatch.setattr(books, "queue", cut)
    with pytest.raises(Cut):
        house.step()
    assert len(house.book.alerts()) == 1
    monkeypatch.undo()
    house.step()
    assert len(house.book.alerts()) == 2
    assert [one["alert_id"] for one in house.queued()] == [A1, alert_id(finding(2).finding_id)]


def test_every_revision_and_decision_waits_for_each_destination_in_order(house: House) -> None:
    house.found(finding(1))
    house.decide("acknowledge", A1)
    house.found(finding(1, word=1, seen=HOUR, severity="critical"), after=HOUR)
    said = house.queued()
    assert [(one["kind"], one.get("change") or one["action"]) for one in said] == [
        ("alert", "raised"), ("decision", "acknowledge"), ("alert", "decided"), ("alert", "raised-again"),
    ]  # fmt: skip
    assert [one["revision"] for one in said if one["kind"] == "alert"] == [0, 1, 2]


def test_a_decision_where_no_destination_is_known_is_queued_by_the_runner(house: House) -> None:
    house.found(finding(1))
    console = book(house.address)
    console.decide(decision("comment", A1))
    console.close()
    assert len(house.queued()) == 1
    house.step(SECOND)
    assert [one["kind"] for one in house.queued()] == ["alert", "decision", "alert"]
    house.step(SECOND)
    assert len(house.queued()) == 3


def test_what_nobody_queues_is_bounded_and_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console without a runner takes findings in for ever; its book is not to grow by letters that nobody sends."""
    monkeypatch.setattr(books, "UNQUEUED_MAX", 10)
    house.book.letters = None
    for number in range(1, 16):
        house.found(finding(number, who=f"svc_{number}"), after=SECOND)
    house.book.letters = lambda event: [letter("siem", event)]
    house.found(finding(16, who="svc_16"), after=SECOND)
    told = [one["finding"]["finding_id"] for one in house.queued()]
    assert told == [finding(number).finding_id for number in range(6, 17)]
    assert house.book.counted()["unqueued_gone"] == 5


def test_a_decision_is_carried_out_once_and_listed_with_person_time_and_reason(house: House) -> None:
    house.found(finding(1))
    assert len(house.decide("acknowledge", A1, ticket="CHG-5120")) == 1
    assert house.decide("acknowledge", A1, ticket="CHG-5120") == []
    (said,) = house.book.decisions(A1)
    assert (said["person"], said["reason"], said["ticket"]) == ("analyst-7", "load test of the historian", "CHG-5120")
    with pytest.raises(DecisionRefused):
        house.decide("reopen", A1)
    assert house.book.decisions() == [said]
    assert house.book.alert(A1)["state"] == "in-progress"


def test_a_suppression_lasts_over_restarts_counts_and_ends(house: House) -> None:
    house.decide("suppress", None, scope={"verdict": "over-limit"}, until=at(2 * HOUR))
    house.found(finding(1), after=MINUTE)
    house.book.close()
    house.book = house.opened()
    (rule,) = house.book.suppressions()
    assert (rule["hidden"], rule["decision"]["person"], rule["ended"]) == (1, "analyst-7", None)
    assert house.book.alert(A1)["state"] == "suppressed"
    house.step(2 * HOUR)
    assert house.book.suppressions() == []
    assert [one["change"] for one in house.book.revisions(A1)] == ["raised", "returned"]
    assert house.book.suppressions(ended=True)[0]["ended"] is not None


def test_a_shelf_ends_although_nothing_is_found_meanwhile(house: House) -> None:
    house.found(finding(1))
    house.decide("shelve", A1, until=at(HOUR))
    house.step(59 * MINUTE)
    assert house.book.alert(A1)["shelved_until"] is not None
    house.step(2 * MINUTE)
    assert house.book.alert(A1)["why"] == "the shelf ended"


def test_a_batch_is_told_when_its_minute_is_over(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 8)))
    house.step(61 * SECOND)
    told = [one for one in house.queued() if one["notify"]]
    assert [one["why"] for one in told] == ["first seen", "6 alerts of north/svc_report: 6 over-limit"]


def test_what_an_undeclared_account_made_needless_is_kept_and_released(house: House) -> None:
    house.found(finding(1), finding(2, "undeclared-account", severity="high"))
    account = alert_id(finding(2).finding_id)
    house.found(finding(3), after=HOUR)
    assert {one["inhibited_by"] for one in house.book.alerts(AlertQuery(verdict="over-limit"))} == {account}
    house.decide("resolve", account, disposition="true-positive")
    assert {one["inhibited_by"] for one in house.book.alerts(AlertQuery(verdict="over-limit"))} == {None}


def test_a_silent_agent_that_beats_again_releases_what_it_made_needless(house: House) -> None:
    house.add(heartbeats=(beat("tap-idmz", at(-HOUR)),))
    silent = finding(1, "agent-silent", source="tap-idmz", who=None, severity="high")
    house.found(silent, finding(2, "unseen", agent="tap-idmz", who=None))
    needless = alert_id(finding(2).finding_id)
    assert house.book.alert(needless)["inhibited_by"] == A1
    house.add(heartbeats=(beat("tap-idmz", at(HOUR)),))
    house.step(HOUR)
    assert house.book.alert(needless)["inhibited_by"] is None
    assert house.book.alert(A1)["why"] == f"tap-idmz was heard again at {at(HOUR)}"


def test_folded_findings_are_counted_and_lead_to_their_alert(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 301)))
    assert len(house.book.alerts(AlertQuery(limit=1_000))) == ALIKE_MAX + 1
    fold = house.book.find(finding(300).finding_id)
    assert len(house.book.members(fold, 1_000)) == 300 - ALIKE_MAX
    house.step(HOUR)
    assert house.book.alert(finding(250).finding_id)["folded"] == 300 - ALIKE_MAX
    assert house.book.counted()["folded"] == 300 - ALIKE_MAX


def test_alerts_are_selected_by_state_severity_verdict_account_and_time(house: House) -> None:
    house.found(finding(1), finding(2, "dump", severity="critical", who="h.keller"))
    house.decide("acknowledge", A1)
    found = house.book.alerts

    def ids(**query: Any) -> list[str]:
        return [one["alert_id"] for one in found(AlertQuery(**query))]

    dump_alert = alert_id(finding(2).finding_id)
    assert ids(state="open", plant="north") == ids() == [*sorted((A1, dump_alert))]
    assert ids(state="in-progress") == ids(severity="info", verdict="over-limit") == ids(account="svc_report") == [A1]
    assert ids(severity="high") == [dump_alert]
    assert ids(plant="south") == ids(until=at(0)) == ids(since=at(HOUR)) == []
    person = house.book.alert(dump_alert)["finding"]["who"]
    assert person.startswith("person:")
    assert ids(account=person) == [dump_alert]


def test_an_alert_is_found_by_the_beginning_of_its_id_or_its_findings(house: House) -> None:
    house.found(finding(0x1234567800000001), finding(0x1234567800000002))
    first = "A-1234567800000001"
    assert house.book.find("f-1234567800000001") == house.book.find("1234567800000001") == house.book.find(first) == first
    for wrong in ("A-12345678", "A-1234", "B-1234567800000001", "", "A-ffffffffffffffff"):
        with pytest.raises(IdUnknown):
            house.book.find(wrong)


def test_precision_is_computed_from_dispositions_by_detector(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 7)), finding(9, "dump"))
    for number, disposition in enumerate(("true-positive", "benign-trigger", "false-positive", "duplicate", "test"), 1):
        house.decide("resolve", alert_id(finding(number).finding_id), disposition=disposition)
    dumps, limits = house.book.precision()
    assert (dumps.verdict, dumps.alerts, dumps.precision) == ("dump", 1, None)
    assert (limits.alerts, limits.true_positive, limits.precision, limits.worth) == (6, 1, 2 / 3, 1 / 3)


def test_of_very_many_revisions_the_oldest_updates_go_and_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "REVISIONS_MAX", 4)
    monkeypatch.setattr(books, "PRUNE_EVERY", 2)
    house.found(finding(1))
    house.decide("comment", A1)
    for word in range(1, 12):
        house.found(finding(1, word=word, seen=word * HOUR), after=HOUR)
    kept = [(one["revision"], one["change"]) for one in house.book.revisions(A1)]
    assert kept[:2] == [(0, "raised"), (1, "decided")]
    assert [number for number, _ in kept[2:]] == [8, 9, 10, 11, 12]
    assert house.book.counted()["revisions_gone"] == 6


def test_alerts_resolved_long_ago_go(house: House) -> None:
    house.found(finding(1), finding(2))
    house.decide("resolve", A1, disposition="test")
    assert house.book.tidy(NOW_NS + 399 * DAY) == 0
    assert house.book.tidy(NOW_NS + 401 * DAY) == 1
    assert [one["alert_id"] for one in house.book.alerts()] == [alert_id(finding(2).finding_id)]
    assert house.book.revisions(A1) == house.book.decisions(A1) == []


def test_history_has_decisions_before_what_they_changed(house: House) -> None:
    house.found(finding(1))
    house.now_ns += HOUR
    house.decide("comment", A1)
    assert [(one["kind"], one.get("revision")) for one in house.book.history()] == [("alert", 0), ("decision", None), ("alert", 1)]
    assert [one["kind"] for one in house.book.history(since=at(MINUTE))] == ["decision", "alert"]
    assert [one["kind"] for one in house.book.history(until=at(MINUTE))] == ["alert"]


@pytest.mark.parametrize("piece", [1, 2, 7])
def test_history_is_the_same_however_few_are_read_at_once(house: House, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    house.found(*(finding(number) for number in range(1, 8)))
    house.decide("resolve", A1, disposition="test")
    house.found(*(finding(number, word=1, severity="critical") for number in range(2, 6)), after=MINUTE)
    whole = list(house.book.history())
    part = list(house.book.history(at(0), at(1)))
    assert len(whole) > len(part) > 7
    monkeypatch.setattr(books, "PIECE_EVENTS", piece)
    assert list(house.book.history()) == whole
    assert list(house.book.history(at(0), at(1))) == part


def test_two_writers_take_turns_and_neither_loses(house: House) -> None:
    house.found(*(finding(number) for number in range(1, 21)))
    failed: list[BaseException] = []

    def comment(person: int) -> None:
        own = book(house.address)
        try:
            for number in range(1, 21):
                own.decide(
                    decision(
                        "comment", alert_id(finding(number).finding_id), HOUR, person=f"analyst-{person}", event_id=f"{person}/{number}"
                    )
                )
        except BaseException as error:
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=comment, args=(person,)) for person in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number in range(1, 21):
        assert [one["revision"] for one in house.book.revisions(alert_id(finding(number).finding_id))] == [0, 1, 2, 3]


# One database only


def test_no_order_of_commits_loses_a_finding(postgres: str) -> None:
    hiding = Hiding(KEY)
    early, late = PostgresStore(postgres, hiding), PostgresStore(postgres, hiding)
    the_book = book(postgres)

    def add(store: PostgresStore, number: int) -> None:
        store.add([Said(dump(finding(number)), finding(number).model_dump())])

    add(early, 9)  # The table of the day is there, and nobody waits for whoever makes it.
    the_book.step(NOW_NS)
    with early._open.transaction():
        add(early, 1)
        add(late, 2)  # A larger transaction number, committed first.
        the_book.step(NOW_NS)
        assert len(the_book.alerts()) == 2, "and what is there waits for nobody"
        the_book.step(NOW_NS)
    the_book.step(NOW_NS)
    assert len(the_book.alerts()) == 3
    assert all(len(the_book.revisions(one["alert_id"])) == 1 for one in the_book.alerts())
    for each in (early, late, the_book):
        each.close()


def test_whoever_opens_a_book_waits_for_no_writer_of_it(postgres: str) -> None:
    """Every scrape and every page of the console opens one; a step may take seconds."""
    the_book = book(postgres)
    the_book.letters = lambda event: [letter("siem", event)]
    opened = threading.Event()

    def look() -> None:
        other = book(postgres)
        other.destinations()
        other.close()
        opened.set()

    with psycopg.connect(postgres) as writer:
        for table in ("alerts", "alert_revisions", "deliveries", "delivery_destinations"):
            writer.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE".encode())
        thread = threading.Thread(target=look)
        thread.start()
        assert opened.wait(20)
    thread.join()
    the_book.close()


def test_a_connection_that_was_cut_is_made_anew(postgres: str) -> None:
    the_book = book(postgres)
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    with pytest.raises(Exception, match="postgresql"):
        the_book.step(NOW_NS)
    assert the_book.step(NOW_NS) == 0
    the_book.close()


@pytest.mark.parametrize("open_meanwhile", [True, False])
def test_a_store_that_was_made_anew_beside_its_old_book_has_its_findings_alerted(tmp_path: Path, open_meanwhile: bool) -> None:
    path = tmp_path / "plant.db"
    store, the_book = EmbeddedStore(path), book(str(path))
    store.add(findings=[finding(number).model_dump() for number in range(1, 6)])
    assert the_book.step(NOW_NS) == 5
    store.close()
    if not open_meanwhile:
        the_book.close()
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)
    again = EmbeddedStore(path)
    again.add(findings=[finding(9).model_dump()])
    the_book = the_book if open_meanwhile else book(str(path))
    assert the_book.step(NOW_NS) == 1
    assert the_book.step(NOW_NS) == 0
    assert len(the_book.alerts()) == 6
    the_book.close()
    again.close()


def test_a_database_that_was_restored_into_another_server_loses_no_finding(postgres: str) -> None:
    """Its transactions are numbered anew, and the book's place is far beyond them."""
    store, the_book = PostgresStore(postgres, Hiding(KEY)), book(postgres)
    the_book.step(NOW_NS)
    with psycopg.connect(postgres, autocommit=True) as other:
        place = json.dumps({"from": "900000000", "next": None, "at": None, "finding": ""})
        other.execute("UPDATE alert_state SET value = %s WHERE name = 'place'", (place,))
    store.add([Said(dump(finding(1)), finding(1).model_dump())])
    the_book.step(NOW_NS)
    assert [one["finding"]["finding_id"] for one in the_book.alerts()] == [finding(1).finding_id]
    store.close()
    the_book.close()


def test_a_store_of_the_version_before_has_all_its_findings_alerted(tmp_path: Path) -> None:
    path = tmp_path / "plant.db"
    store = EmbeddedStore(path)
    store.add(findings=[finding(1).model_dump(), finding(2).model_dump()])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE finding_changes")
    the_book = book(str(path))
    assert the_book.step(NOW_NS) == 0
    EmbeddedStore(path).close()
    assert the_book.step(NOW_NS) == 2
    the_book.close()


def test_a_finding_that_cannot_be_read_is_counted_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    path = tmp_path / "plant.db"
    store = EmbeddedStore(path)
    store.add(findings=[finding(1).model_dump(), finding(2).model_dump() | {"severity": "dreadful"}, finding(3).model_dump()])
    the_book = book(str(path))
    assert the_book.step(NOW_NS) == 3
    assert len(the_book.alerts()) == 2
    assert the_book.counted()["unreadable"] == 1
    the_book.close()
    store.close()


def test_a_full_book_refuses_the_step_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    from alerts.embedded import EmbeddedBook

    path = tmp_path / "plant.db"
    store = EmbeddedStore(path)
    store.add(findings=[finding(number, who=f"svc_{number}").model_dump() for number in range(1, 400)])
    small = EmbeddedBook(path, size_bytes_max=1 << 19)
    with pytest.raises(StoreFull, match="no room"):
        small.step(NOW_NS)
    assert small.alerts() == []
    small.close()
    large = EmbeddedBook(path)
    assert large.step(NOW_NS) == 399
    large.close()
    store.close()


def test_reading_alerts_holds_no_lock_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "plant.db"
    store = EmbeddedStore(path)
    store.add(findings=[finding(1).model_dump()])
    the_book = book(str(path))
    with the_book._writing():
        the_book._changed(None, 1_000)
        store.add(findings=[finding(2).model_dump()])  # Would wait for ten seconds and then fail.
    store._open.execute("BEGIN IMMEDIATE")
    assert the_book.step(NOW_NS) == 2
    store._open.execute("COMMIT")
    the_book.close()
    store.close()


_RUN = """
import sys
from alerts.book import book
from alerts.outbox import letter
made = book(sys.argv[1])
made.letters = lambda event: [letter("siem", event)]
now_ns = int(sys.argv[2])
print("on", flush=True)
while True:
    now_ns += 10**9
    made.step(now_ns, 7)
"""


def test_a_runner_that_is_killed_again_and_again_loses_nothing_and_says_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "plant.db"
    store = EmbeddedStore(path)
    house = House(str(path), lambda *findings: store.add(findings=[one.model_dump() for one in findings]))
    words = 0
    for round_ in range(4):
        runner = subprocess.Popen([sys.executable, "-c", _RUN, str(path), str(house.now_ns)], stdout=subprocess.PIPE, env=os.environ.copy())
        assert runner.stdout is not None
        runner.stdout.readline()
        for number in range(1, 120):
            words += 1
            store.add(findings=[finding(number, word=round_, seen=round_ * HOUR + number * SECOND, ratio=2.0 ** (round_ + 1)).model_dump()])
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        runner.stdout.close()
        house.now_ns += DAY
    house.step(HOUR)
    alerts = house.book.alerts(AlertQuery(limit=1_000))
    assert len(alerts) == ALIKE_MAX + 1
    letters = {one["event_id"] for one in house.queued()}
    assert len(letters) == len(house.queued()), "no letter twice"
    for one in alerts:
        revisions = house.book.revisions(one["alert_id"])
        assert [each["revision"] for each in revisions] == list(range(len(revisions)))
        assert {each["event_id"] for each in revisions} <= letters or len(letters) == 1_000
    assert {one["finding"]["ratio"] for one in alerts} == {16.0}
    house.book.close()
    store.close()
