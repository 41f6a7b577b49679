"""A clock that is off is one finding within a minute, and makes no other; a message that waited is no clock."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from north import NIGHT, architecture, collect, extract, mes, objects, publish, upload

from detectors.clock import AGENTS_MAX, ClockDetector, Clocks
from detectors.verdict import VerdictDetector
from hopwatch.engine import Judge
from hopwatch.events import Event, Finding, Flow, Heartbeat, time_ns, time_text

PLANT = architecture()
S = 10**9
BEGIN_NS = time_ns(NIGHT)


def beat(at_s: float, agent: str = "tap-idmz", **said: Any) -> Heartbeat:
    at_ns = BEGIN_NS + int(at_s * S)
    return Heartbeat.model_validate({"event_id": f"{agent}{at_ns}", "plant": "north", "agent": agent, "time": time_text(at_ns)} | said)


def heard(detector: ClockDetector, *events: tuple[float, Event]) -> list[Finding]:
    """What the detector says of events, each with the second at which the broker received it."""
    found: list[Finding] = []
    for received_s, event in events:
        detector.received(BEGIN_NS + int(received_s * S))
        found += detector.observe(event)
    return found


def minute(skew_s: float, delay_s: float = 0.3, agent: str = "tap-idmz", seconds: int = 60) -> list[tuple[float, Event]]:
    return [(n + delay_s + n % 3 * 0.2, beat(n + skew_s, agent)) for n in range(0, seconds, 10)]


@pytest.mark.parametrize("skew_s", [90, -90, 11, -11])
def test_a_skewed_clock_is_one_finding_within_a_minute(skew_s: int) -> None:
    detector = ClockDetector(PLANT)
    found = heard(detector, *minute(skew_s), *[(at + 60, beat(at + 60 + skew_s)) for at in range(0, 300, 10)])
    assert [(one.verdict, one.source, one.severity) for one in found] == [("clock", "tap-idmz", "medium")]
    assert time_ns(found[0].last_seen) - skew_s * S <= BEGIN_NS + 60 * S
    side = "ahead of" if skew_s > 0 else "behind"
    assert side in found[0].differences[0].observed


@pytest.mark.parametrize("skew_s", [9, -9, 0])
def test_a_clock_within_the_bound_is_none(skew_s: int) -> None:
    assert heard(ClockDetector(PLANT), *minute(skew_s, seconds=600)) == []


def test_what_waited_in_a_spool_is_no_clock() -> None:
    # An hour of heartbeats that all come within seconds, and ever less late ones of a spool that empties slowly.
    at_once = [(3600 + n / 100, beat(n * 10)) for n in range(360)]
    slowly = [(4000 + n * 10, beat(3600 + n * 14)) for n in range(60)]
    assert heard(ClockDetector(PLANT), *at_once, *slowly) == []


@pytest.mark.parametrize("step_s", [90, -90, 7200, -7200])
def test_a_clock_that_is_set_while_it_runs_is_one_finding_within_a_minute(step_s: int) -> None:
    detector = ClockDetector(PLANT)
    assert heard(detector, *minute(0, seconds=120)) == []
    found = heard(detector, *[(120 + at, event) for at, event in minute(120 + step_s)])
    assert [(one.verdict, one.source) for one in found] == [("clock", "tap-idmz")]
    assert found[0].differences[0].observed.startswith(f"{abs(step_s)} s {'ahead' if step_s > 0 else 'behind'}")


def test_heartbeats_that_are_sent_again_are_no_clock() -> None:
    # As an agent does that was killed before it knew of their arrival: the last minute at once, and on from there.
    again = [(125 + n / 100, beat(60 + n * 10)) for n in range(7)]
    after = [(at + 130, beat(at + 130)) for at in range(0, 120, 10)]
    assert heard(ClockDetector(PLANT), *minute(0, seconds=130), *again, *again, *after) == []


def test_one_window_with_a_broken_stamp_is_no_clock() -> None:
    broken = extract(at=time_text(BEGIN_NS + 3600 * S))
    assert heard(ClockDetector(PLANT), (0, beat(0)), (1, broken), (10, beat(10)), (20, beat(20))) == []


def test_without_the_brokers_time_nothing_is_held_against_it() -> None:
    detector = ClockDetector(PLANT)
    assert [found for n in range(100) for found in detector.observe(beat(n * 10))] == []


def test_an_agent_that_says_itself_that_it_is_off_is_believed() -> None:
    detector = ClockDetector(PLANT)
    off = {"clock": {"offset_s": -90.0, "error_s": 0.1, "synchronised": True}}
    found = [one for n in range(6) for one in detector.observe(beat(n * 10, **off))]
    assert [one.differences[0].observed for one in found] == ["its own word: off by 90 s"]


def begins(n: int, agent: str, at_s: float) -> Flow:
    return extract(key=f"{agent}{n}", connection=f"c{n}", agent=agent, at=time_text(BEGIN_NS + int(at_s * S)))


def test_two_agents_that_see_a_connection_begin_at_two_times_differ() -> None:
    detector = ClockDetector(PLANT)
    found = [one for n in range(8) for agent, off in (("a", 0), ("b", 90)) for one in detector.observe(begins(n, agent, n * 20 + off))]
    assert [(one.source, one.destination, one.differences[0].observed) for one in found] == [("a", "b", "b is 90 s ahead of a")]


def test_two_agents_that_differ_by_chance_do_not() -> None:
    detector = ClockDetector(PLANT)
    apart = [0, 90, 13, 45, 0, 70, 22, 0]
    assert [
        one for n in range(8) for agent, off in (("a", 0), ("b", apart[n])) for one in detector.observe(begins(n, agent, n * 99 + off))
    ] == []


def test_a_clock_that_is_right_again_is_forgotten_and_said_anew() -> None:
    clocks = Clocks()
    detector = ClockDetector(PLANT, clocks)
    right = [(200 + n, beat(200 + n)) for n in range(0, 60, 10)]
    again = [(300 + n, beat(390 + n)) for n in range(0, 60, 10)]
    assert len(heard(detector, *minute(90), *right)) == 1
    assert clocks.ahead_ns == {}
    found = heard(detector, *again)
    assert [one.windows for one in found] == [2]


def day(skew_s: int) -> Iterator[tuple[float, Event]]:
    """Declared and undeclared windows around the edges of schedules, and heartbeats, by a clock that is off."""
    for n in range(0, 60, 10):
        yield n, beat(n + skew_s)
    # The nightly window of extract-quality begins at 01:30 plant time, half an hour before NIGHT, and ends at 03:00.
    for edge_s in (-1800, 3600):
        for n, off_s in enumerate(range(-120, 121, 20)):
            at_s = edge_s + off_s
            part = [objects("quality.inspection", columns=("lot", "result"), rows=3, bytes=900)]
            yield at_s, extract(n=n, key=f"{edge_s}", at=time_text(BEGIN_NS + int((at_s + skew_s) * S)), objects=part)


def judged(skew_s: int) -> tuple[list[str], list[Finding]]:
    clocks = Clocks()
    clock, verdict = ClockDetector(PLANT, clocks), VerdictDetector(PLANT, clocks=clocks)
    verdicts: list[str] = []
    found: list[Finding] = []
    for received_s, event in day(skew_s):
        clock.received(BEGIN_NS + int(received_s * S))
        found += clock.observe(event)
        verdicts += [one.verdict for one in verdict.observe(event)]
    return verdicts, found


@pytest.mark.parametrize("skew_s", [90, -90])
def test_windows_of_a_skewed_agent_get_the_verdicts_of_a_right_one(skew_s: int) -> None:
    verdicts, found = judged(skew_s)
    right, none = judged(0)
    assert verdicts == right
    assert set(right) == {"declared", "outside-window"}
    assert (len(found), none) == (1, [])


# What every detector is held to


def test_a_thousand_declared_windows_raise_nothing() -> None:
    detector = ClockDetector(PLANT)
    made = [extract, upload, publish, collect, mes]
    for n in range(1000):
        window = made[n % 5](n=n)
        detector.received(time_ns(window.end) + S)
        assert detector.observe(window) == []


@pytest.mark.parametrize("cut", [1, 3, 5, 12, 25])
def test_state_survives_a_save_and_load_half_way_and_so_do_changes(cut: int) -> None:
    events = [
        *minute(-90),
        *minute(90, agent="tap-egress"),
        *[(0, begins(n, agent, n + off)) for n in range(6) for agent, off in (("a", 0), ("b", 60))],
    ]
    whole = heard(ClockDetector(PLANT), *events)
    before, saved, changed = ClockDetector(PLANT), ClockDetector(PLANT), ClockDetector(PLANT)
    changed.merge(json.loads(json.dumps(before.changes())))
    first = heard(before, *events[:cut])
    saved.restore(json.loads(json.dumps(before.state())))
    changed.merge(json.loads(json.dumps(before.changes())))
    assert first + heard(saved, *events[cut:]) == whole
    assert first + heard(changed, *events[cut:]) == whole
    assert len(whole) == 3


def test_changes_are_the_connections_that_began_since_and_give_the_same_state_at_the_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.clock.CONNECTIONS_MAX", 20)
    one, other = ClockDetector(PLANT), ClockDetector(PLANT)
    one.changes()
    told: list[int] = []
    # Every seventh is seen by a second agent, some of them again after they were forgotten.
    for n in range(150):
        for agent in ("a", "b")[: 1 + (n % 7 == 0)]:
            one.observe(begins(n % 40 if n > 100 else n, agent, n))
        if n % 5 == 4:
            changes = json.loads(json.dumps(one.changes()))
            told.append(len(changes["begun_since"]))
            other.merge(changes)
            assert json.dumps(other.state()) == json.dumps(one.state())
    assert max(told) <= 5
    assert one.changes() == {}


def test_changes_of_an_earlier_version_said_everything() -> None:
    one, other = ClockDetector(PLANT), ClockDetector(PLANT)
    for n in range(3):
        one.observe(begins(n, "a", n))
        other.observe(begins(n + 3, "b", n))
    other.merge(json.loads(json.dumps(one.state())))
    assert json.dumps(other.state()) == json.dumps(one.state())


def test_repeated_events_change_nothing() -> None:
    events = minute(-90)
    twice = [event for each in events for event in (each, each)]
    assert heard(ClockDetector(PLANT), *twice) == heard(ClockDetector(PLANT), *events)


def test_a_hundred_thousand_agents_are_bounded_and_counted() -> None:
    detector = ClockDetector(PLANT)
    judge: Judge[Finding] = Judge([detector])
    judge.engine.received(BEGIN_NS)
    judge.judge([beat(0, agent=f"agent{n}") for n in range(100_000)])
    assert len(detector.state()["agents"]) == AGENTS_MAX
    assert detector.forgotten_total == 100_000 - AGENTS_MAX
