"""The engine keeps the bus's order, loses and doubles nothing over a restart, and is not stopped by a bad line."""

import json
from typing import Any

import pytest

from hopwatch.engine import Engine, Judge, SnapshotError
from hopwatch.events import Event, Heartbeat, Loss, dump, time_text
from tests.detectors.north import extract


class MemoryLog:
    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.commits: dict[str, int] = {}

    def read(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        return list(enumerate(self.lines))[offset : offset + limit]

    def commit(self, consumer: str, offset: int) -> None:
        self.commits[consumer] = max(offset, self.commits.get(consumer, 0))

    def committed(self, consumer: str) -> int:
        return self.commits.get(consumer, 0)


class Counting:
    """A detector that says how many events it has seen."""

    def __init__(self, name: str = "counting") -> None:
        self.name = name
        self.seen: list[str] = []
        self.told: list[int] = []
        self.blinded = 0

    def observe(self, event: Event) -> list[object]:
        self.seen.append(getattr(event, "event_id", ""))
        return [(self.name, len(self.seen), self.seen[-1])]

    def advance(self, now_ns: int) -> list[object]:
        self.told.append(now_ns)
        return []

    def blind(self, loss: Loss) -> None:
        self.blinded += 1

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen, "told": self.told, "blinded": self.blinded}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen, self.told, self.blinded = list(state["seen"]), list(state["told"]), state["blinded"]


class Kept:
    def __init__(self) -> None:
        self.outcomes: list[object] = []

    def say(self, outcome: object) -> None:
        self.outcomes.append(outcome)


def beat(n: int, seconds: float | None = None) -> Heartbeat:
    at_ns = int((1_000_000 + (n if seconds is None else seconds)) * 10**9)
    return Heartbeat(event_id=f"h{n}", plant="north", agent="a", time=time_text(at_ns))


LINES = [dump(beat(n)) for n in range(2_500)]


def test_every_detector_sees_every_event_in_the_order_of_the_bus() -> None:
    sink = Kept()
    engine = Engine([Counting("one"), Counting("two")], sink)
    assert engine.drain(MemoryLog(LINES)) == 2_500
    assert sink.outcomes == [(name, n + 1, f"h{n}") for n in range(2_500) for name in ("one", "two")]


@pytest.mark.parametrize("cut", [0, 1, 1_234])
def test_a_restart_from_a_snapshot_neither_loses_nor_doubles(cut: int) -> None:
    before = Kept()
    engine = Engine([Counting()], before)
    engine.drain(MemoryLog(LINES[:cut]))
    kept = engine.snapshot()
    after = Kept()
    again = Engine([Counting()], after)
    again.restore(kept)
    again.drain(MemoryLog(LINES))
    assert before.outcomes + after.outcomes == [("counting", n + 1, f"h{n}") for n in range(2_500)]


def test_a_line_that_is_no_event_is_counted_and_passed_over() -> None:
    sink = Kept()
    engine = Engine([Counting()], sink)
    engine.drain(MemoryLog([LINES[0], b"{", LINES[1]]))
    assert (engine.refused_total, engine.offset, len(sink.outcomes)) == (1, 3, 2)


def test_a_loss_makes_detectors_blind() -> None:
    detector = Counting()
    loss = Loss(event_id="l", plant="north", agent="a", stage="kernel", start="2026-04-07T00:00:00Z", end="2026-04-07T00:00:01Z")
    Engine([detector], Kept()).take([loss])
    assert (detector.blinded, detector.seen) == (1, [])


def test_time_passes_with_the_events_and_never_backwards() -> None:
    detector = Counting()
    Engine([detector], Kept()).take([beat(0), beat(1, 0.5), beat(2, 3), beat(3, 1), beat(4, 4.5)])
    assert [told // 10**9 - 1_000_000 for told in detector.told] == [0, 3, 4]


def test_one_clock_far_ahead_moves_no_timer_and_a_silent_day_does() -> None:
    detector = Counting()
    engine = Engine([detector], Kept())
    engine.take([beat(0), beat(1, 10**6), beat(2, 2)])
    assert (engine.ahead_total, detector.told[-1] // 10**9) == (1, 1_000_002)
    engine.take([beat(3, 2 * 10**6), beat(4, 2 * 10**6 + 1)])
    assert detector.told[-1] // 10**9 == 3_000_001


def test_two_windows_far_ahead_are_two_in_a_row_only_if_none_of_the_old_time_comes_between() -> None:
    detector = Counting()
    engine = Engine([detector], Kept())
    engine.take(extract(at=at) for at in ("2026-04-07T10:00:00Z", "2026-05-07T10:00:00Z", "2026-04-07T10:00:00Z", "2026-06-07T10:00:00Z"))
    assert (engine.ahead_total, time_text(engine.now_ns)[:10]) == (2, "2026-04-07")
    engine.take([extract(at="2026-06-07T10:00:01Z")])
    assert time_text(engine.now_ns)[:10] == "2026-06-07"


def test_time_passes_without_events_where_somebody_says_so() -> None:
    detector = Counting()
    engine = Engine([detector], Kept())
    engine.take([beat(0)])
    for seconds in (0.5, 30, 30.2, 20):
        engine.advance(int((1_000_000 + seconds) * 10**9))
    engine.take([beat(1, 25), beat(2, 31.5)])
    assert [told / 10**9 - 1_000_000 for told in detector.told] == [0, 30, 31.5]


def test_a_snapshot_of_other_detectors_is_refused() -> None:
    kept = Engine([Counting("one")], Kept()).snapshot()
    with pytest.raises(SnapshotError, match="two"):
        Engine([Counting("two")], Kept()).restore(kept)
    with pytest.raises(SnapshotError):
        Engine([Counting("one")], Kept()).restore(json.dumps({"version": 99, "detectors": {"one": {}}}).encode())
    with pytest.raises(SnapshotError):
        Engine([Counting("one")], Kept()).restore(b"{")


def test_hand_to_hand_the_outcomes_are_returned_once() -> None:
    judge: Judge[tuple[str, int, str]] = Judge([Counting()])
    assert judge.judge([beat(0), beat(1)]) == [("counting", 1, "h0"), ("counting", 2, "h1")]
    assert judge.judge([]) == []
    assert judge.finish() == []
