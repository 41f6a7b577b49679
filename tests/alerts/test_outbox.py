"""What waits for a destination is durable, in order and bounded, in SQLite and in PostgreSQL alike."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alerts import outbox as module
from alerts.outbox import DELIVERIES_MAX, Outbox, QueueState, letter, queue
from hopwatch.events import Decision, parse
from hopwatch.store import StoreError
from tests.alerts.letters import T0_NS, Book, alert, book, letters

S = 10**9


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    with book(request.param, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


def _state(outbox: Outbox, name: str = "siem") -> QueueState:
    return next(state for state in outbox.states() if state.destination == name)


def _ids(outbox: Outbox, name: str = "siem") -> list[str]:
    return [one.event_id for one in outbox.waiting(name, 1_000)]


def test_letters_are_there_with_the_transaction_that_wrote_the_alert_or_not_at_all(kept: Book) -> None:
    outbox = kept.outbox()
    with pytest.raises(ZeroDivisionError), kept.transaction() as db:
        queue(db, letters("siem", range(3)), T0_NS)
        raise ZeroDivisionError
    assert outbox.waiting("siem", 10) == []
    kept.queue(letters("siem", range(2)))
    assert [parse(one.line) for one in outbox.waiting("siem", 10)] == [alert(0), alert(1)]


def test_each_destination_has_its_own_order_and_survives_a_restart(kept: Book) -> None:
    kept.queue(letters("siem", range(2)) + letters("mail", range(2)))
    kept.queue(letters("siem", range(2, 4)))
    first = kept.outbox()
    first.sent("siem", [one.place for one in first.waiting("siem", 1)], T0_NS + S)
    first.close()
    again = kept.outbox()
    assert _ids(again) == [alert(number).event_id for number in (1, 2, 3)]
    assert _ids(again, "mail") == [alert(number).event_id for number in (0, 1)]
    assert (_state(again).waiting, _state(again).sent_total) == (3, 1)
    assert _state(again).oldest_time == "2026-04-07T10:42:08.000000000Z"


def test_failure_keeps_the_letter_at_the_front_and_says_when_it_is_tried_again(kept: Book) -> None:
    outbox = kept.outbox()
    kept.queue(letters("siem", range(2)))
    front = outbox.waiting("siem", 1)[0]
    for _ in range(5):
        outbox.failed("siem", front.place, "refused\nby a\tfirewall " + "x" * 1_000, T0_NS, T0_NS + 30 * S)
    state = _state(outbox)
    assert (state.failures, state.circuit, state.retried_total) == (5, "open", 5)
    assert state.next_time == "2026-04-07T10:42:38.000000000Z"
    assert state.error is not None and state.error.startswith("refused by a firewall x") and len(state.error) == 300
    assert (again := outbox.waiting("siem", 1)[0]).event_id == front.event_id and again.attempts == 5
    outbox.sent("siem", [front.place], T0_NS + 31 * S)
    assert (_state(outbox).failures, _state(outbox).circuit) == (0, "closed")


def test_bound_costs_the_oldest_updates_of_the_lowest_severity_and_no_raised_alert(kept: Book) -> None:
    outbox = kept.outbox()
    raised = letters("siem", range(3))
    low = [letter("siem", alert(n, revision=1, change="updated", severity="low")) for n in (10, 11, 12)]
    high = [letter("siem", alert(n, revision=1, change="updated", severity="high")) for n in (20, 21)]
    resolved = letter("siem", alert(30, revision=2, change="decided", state="resolved", severity="info"))
    assert kept.queue([raised[0], high[0], low[0], low[1], raised[1], resolved], most=6) == 0
    assert kept.queue([low[2]], most=6) == 1
    assert low[0].event_id not in _ids(outbox) and low[2].event_id in _ids(outbox)
    assert kept.queue([raised[2], high[1]], most=6) == 2
    assert _ids(outbox) == [one.event_id for one in (raised[0], high[0], raised[1], resolved, raised[2], high[1])]
    more = letters("siem", range(40, 45))
    kept.queue(more, most=6)
    assert _ids(outbox) == [one.event_id for one in (*raised, *more)]
    state = _state(outbox)
    assert (state.waiting, state.dropped_total) == (8, 6)
    assert f"6 updates were dropped at the bound of {DELIVERIES_MAX}" in state.said


def test_letters_above_the_bound_are_said(kept: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELIVERIES_MAX", 2)
    kept.queue(letters("siem", range(5)), most=2)
    state = _state(kept.outbox())
    assert state.over == 3 and "3 more wait than the bound, all of them raise an alert" in state.said


def test_decisions_outlast_updates_at_the_bound(kept: Book) -> None:
    decision = Decision(event_id="d", plant="north", time="2026-04-07T10:42:08Z", person="a", action="acknowledge", reason="seen")
    kept.queue([letter("siem", decision), letter("siem", alert(1, revision=1, change="updated"))], most=1)
    assert _ids(kept.outbox()) == ["d"]


def test_dead_letter_is_listed_and_replayed_at_the_end_of_the_queue(kept: Book) -> None:
    outbox = kept.outbox()
    kept.queue(letters("siem", range(4)))
    for one in outbox.waiting("siem", 2):
        outbox.dead("siem", one.place, "HTTP 400", T0_NS)
    dead = outbox.dead_letters("siem")
    assert [(one.event_id, one.error, one.attempts) for one in dead] == [(alert(n).event_id, "HTTP 400", 1) for n in (0, 1)]
    assert (_state(outbox).dead, _state(outbox).waiting) == (2, 2)
    assert outbox.replay("siem", T0_NS + S, [dead[1].place, 999]) == 1
    assert outbox.replay("siem", T0_NS + S) == 1
    assert _ids(outbox) == [alert(n).event_id for n in (2, 3, 1, 0)]
    assert (_state(outbox).dead, _state(outbox).dead_total, _state(outbox).waiting) == (0, 2, 4)


def test_dead_letters_are_bounded_and_those_that_raise_alerts_go_last(kept: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_MAX", 2)
    outbox = kept.outbox()
    kept.queue([*letters("siem", range(1)), letter("siem", alert(7, revision=1, change="updated")), *letters("siem", range(1, 2))])
    for one in outbox.waiting("siem", 3):
        outbox.dead("siem", one.place, "no", T0_NS)
    assert [one.event_id for one in outbox.dead_letters("siem")] == [alert(0).event_id, alert(1).event_id]
    assert _state(outbox).dead_dropped_total == 1


def test_a_destination_has_one_sender_at_a_time(kept: Book) -> None:
    first, second = kept.outbox(), kept.outbox()
    assert first.hold("siem") and first.hold("siem")
    assert not second.hold("siem")
    assert second.hold("mail")
    first.close()
    assert second.hold("siem")


def test_canary_leaves_its_delay_in_the_state(kept: Book) -> None:
    outbox = kept.outbox()
    outbox.add([letter("siem", alert(canary=True))], T0_NS)
    outbox.sent("siem", [outbox.waiting("siem", 1)[0].place], T0_NS + 2 * S, canary=("c", 1_500_000_000))
    state = _state(outbox)
    assert (state.canary_event, state.canary_time, state.canary_delay_s) == ("c", "2026-04-07T10:42:10.000000000Z", 1.5)


def test_queueing_at_the_bound_stays_quick(kept: Book) -> None:
    """A thousand letters into a full queue: the bound is kept by an index, not by reading the queue."""
    kept.queue([letter("siem", alert(n, revision=1, change="updated", severity="low")) for n in range(2_000)], most=2_000)
    assert kept.queue(letters("siem", range(5_000, 6_000)), most=2_000) == 1_000
    assert _state(kept.outbox()).waiting == 2_000


def test_queues_are_for_nobody_elses_eyes(tmp_path: Path) -> None:
    """Letters name accounts."""
    module.open_outbox(str(tmp_path / "x")).close()
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing of the kind, but long enough to be looked at")
    with pytest.raises(StoreError, match=r"/x: file is not a database"):
        module.open_outbox(str(tmp_path / "x"))


def test_writers_side_by_side_lose_no_order_and_wait_for_one_another_without_end(postgres: str) -> None:
    """A reader that crosses off what it sees must never meet a lower place later: places become visible in their order."""
    outbox = module.open_outbox(postgres)
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            writer = Book(postgres)
            names = ("siem", "mail") if number % 2 else ("mail", "siem")
            for turn in range(25):
                writer.queue([one for name in names for one in letters(name, range(100 * number + turn, 100 * number + turn + 1))])
            writer.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 100 and not errors:
        found = [one.place for one in outbox.waiting("siem", 7)]
        outbox.sent("siem", found, T0_NS)
        seen += found
    for thread in threads:
        thread.join(30)
    assert not errors and seen == list(range(100))
    assert [one.place for one in outbox.waiting("mail", 1_000)] == list(range(100))


@pytest.mark.parametrize("does", ["sent", "failed", "dead"])
def test_a_sender_and_whoever_queues_at_the_bound_never_wait_for_one_another(postgres: str, does: str) -> None:
    """Both take the destination's row first: at the bound the writer takes away what the sender is just taking away."""
    outbox, writer = module.open_outbox(postgres), Book(postgres)
    writer.queue([letter("siem", alert(n, revision=1, change="updated", severity="low")) for n in range(3)])
    front = outbox.waiting("siem", 1)[0].place
    says = {
        "sent": lambda: outbox.sent("siem", [front], T0_NS),
        "failed": lambda: outbox.failed("siem", front, "no", T0_NS, T0_NS + S),
        "dead": lambda: outbox.dead("siem", front, "never", T0_NS),
    }
    errors: list[BaseException] = []

    def work() -> None:
        try:
            says[does]()
        except BaseException as error:
            errors.append(error)

    sender = threading.Thread(target=work)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(postgres, autocommit=True) as watching:
        with writer.transaction() as db:
            queue(db, [letter("siem", alert(10, revision=1, change="updated", severity="low"))], T0_NS)
            sender.start()
            while not watching.execute(waits).fetchall()[0][0]:
                assert sender.is_alive()
            queue(db, [letter("siem", alert(11, revision=1, change="updated", severity="low"))], T0_NS, most=1)
        sender.join(30)
    assert not errors and not sender.is_alive()
    assert [one.event_id for one in outbox.waiting("siem", 10)] == [alert(11, revision=1).event_id]
    assert (_state(outbox).waiting, _state(outbox).dropped_total, _state(outbox).dead) == (1, 4, 0)
    writer.close()
