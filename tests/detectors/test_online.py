"""The questions together: quiet where all is declared, repeatable, restartable, bounded."""

import json
from collections.abc import Iterable
from random import Random

import pytest
from moves import DAY_NS
from north import LAKE_NAME, NIGHT, architecture, collect, end, extract, flow, mes, objects, publish, upload

from detectors.judgement import Judgement
from detectors.online import Online, online
from hopwatch.detect import _edition_of
from hopwatch.engine import Engine
from hopwatch.events import Event, Finding, Flow, Heartbeat, Loss, time_ns, time_text

SEED = 20261121
START_NS = time_ns(NIGHT)


def watch() -> Online:
    return online(architecture())


def findings(detector: Online, events: Iterable[Event]) -> list[Finding]:
    """What the questions say; verdicts and what they bring to light are another matter."""
    found: list[Finding] = []
    for event in events:
        if isinstance(event, Loss):
            detector.blind(event)
            continue
        if isinstance(event, Flow):
            found += [one for one in detector.advance(time_ns(event.end)) if isinstance(event, Finding)]
        found += [one for one in detector.observe(event) if isinstance(one, Finding)]
    return found


def declared(count: int) -> list[Flow]:
    kinds = (extract, upload, publish, collect, mes)
    return [kinds[number % len(kinds)](n=number // len(kinds)) for number in range(count)]


def mixed(count: int, seed: int = SEED) -> list[Event]:
    """Strangers, extractions, refusals, uploads, losses and heartbeats, at random over six hours."""
    random = Random(seed)
    events: list[Event] = []
    for number in range(count):
        at = time_text(START_NS + number * DAY_NS // 4 // count)
        who = f"someone{random.randrange(5)}"
        host = (f"10.40.9.{random.randrange(1, 9)}", 50_000 + random.randrange(99))
        table = objects(f"mes.t{random.randrange(40)}", columns=("*",), rows=random.randrange(20_000), bytes=random.randrange(1, 9) << 20)
        pick = random.randrange(7)
        if pick < 3:
            events.append(extract(n=number, at=at, account=who, destination=end(host), objects=[table], connection=f"c{number % 9}"))
        elif pick == 3:
            events.append(extract(n=number, at=at, account=who, destination=end(host), operation="refused", objects=[table]))
        elif pick == 4:
            events.append(
                flow(
                    n=number, at=at, source=end(host), destination=end((f"192.0.32.{random.randrange(9)}", 443), (LAKE_NAME, "sni")),
                    opened_by="source", protocol="tls", operation="transfer", depth="sizes", bytes=random.randrange(9) << 20,
                    connection=f"t{number}", completeness={"state": "encrypted"},
                )
            )  # fmt: skip
        elif pick == 5:
            events.append(Heartbeat(event_id=f"h{number}", plant="north", agent="tap-l3", time=at))
        else:
            events.append(Loss(event_id=f"l{number}", plant="north", agent="tap-l3", stage="kernel", start=at, end=at, bytes=9_000))
    return events


def test_a_thousand_declared_windows_raise_nothing() -> None:
    assert findings(watch(), declared(1_000)) == []


def test_the_same_stream_gives_the_same_findings() -> None:
    first, second = findings(watch(), mixed(800)), findings(watch(), mixed(800))
    assert first == second
    # The stream is one in which there is much to say, or this shows nothing.
    assert {one.verdict for one in first} >= {"dump", "new-account", "shared-account", "lineage"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_detector_taken_up_again_goes_on_as_if_it_had_never_stopped(whole: bool) -> None:
    events = mixed(800)
    one = watch()
    other = watch()
    findings(one, events[:300])
    other.restore(json.loads(json.dumps(one.state())))
    one.changes()
    if whole:
        middle = 300
    else:
        middle = 500
        findings(one, events[300:500])
        other.merge(json.loads(json.dumps(one.changes())))
    assert findings(other, events[middle:]) == findings(one, events[middle:])
    assert json.dumps(other.state()) == json.dumps(one.state())


def test_what_is_noted_of_windows_like_one_another_changes_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [*mixed(800), *declared(400)]
    noting = watch()
    first = findings(noting, events)
    assert len(noting._kinds) > 50
    monkeypatch.setattr("detectors.online.KINDS_MAX", 0)
    monkeypatch.setattr("detectors.verdict.said", lambda *_, **__: None)
    forgetting = watch()
    assert findings(forgetting, events) == first
    assert not forgetting._kinds
    assert json.dumps(forgetting.state()) == json.dumps(noting.state())


def test_a_state_is_not_changed_by_what_comes_after_it() -> None:
    detector = watch()
    events = mixed(400)
    findings(detector, events[:300])
    taken = detector.state()
    before = json.dumps({question.name: taken[question.name] for question in detector.questions})
    findings(detector, events[300:])
    assert json.dumps({question.name: taken[question.name] for question in detector.questions}) == before


def test_windows_that_come_twice_change_nothing() -> None:
    detector = watch()
    events = [event for event in mixed(400) if isinstance(event, Flow)]
    findings(detector, events)
    before = json.dumps({question.name: question.state() for question in detector.questions})
    assert [found for event in events for found in detector.observe(event)] == []
    assert json.dumps({question.name: question.state() for question in detector.questions}) == before


def test_a_judgement_still_comes_first_and_is_the_verdicts_own() -> None:
    detector = watch()
    said = detector.observe(extract(account="stranger"))
    assert isinstance(said[0], Judgement)
    assert [type(one) for one in said[1:]] == [Finding] * (len(said) - 1)
    alone = watch().verdict.observe(extract(account="stranger"))
    assert said[0] == alone[0]


def test_peers_beyond_every_bound_are_counted_and_not_kept() -> None:
    detector = watch()
    most = max(memory._most for question in detector.questions for memory in question.memories().values())
    assert most <= 65_536
    for question in detector.questions:
        for memory in question.memories().values():
            for key in range(memory._most + 10):
                memory.of(str(key))
            assert len(memory) == memory._most
            assert memory.forgotten_total == 10


def test_a_snapshot_says_the_edition_it_was_kept_under() -> None:
    """Who takes it over builds on that edition's state: without it, whoever asks questions would begin anew with every restart."""
    engine = Engine([online(architecture(), edition="of today")], Quiet())
    engine.take(declared(5))
    assert _edition_of(engine.snapshot()) == "of today"


class Quiet:
    def say(self, outcome: object) -> None:
        """Nobody listens."""
