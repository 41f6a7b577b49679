"""What changed, put onto what was kept, is what is remembered now, order and bounds included."""

import json
import random
from typing import Any

import pytest
from north import architecture, collect, detector, end, extract, mes, objects, publish, upload

import detectors.budget
import detectors.findings
import detectors.views
from detectors.verdict import VerdictDetector
from hopwatch.engine import Engine, SnapshotError
from hopwatch.events import Flow, Loss

EVENTS = 600


class Quiet:
    def say(self, outcome: object) -> None:
        pass


def stream(seed: int) -> list[Flow | Loss]:
    """Declared and undeclared windows of many connections in any order, repeated ones and losses among them."""
    draw = random.Random(seed)
    made: list[Flow | Loss] = []
    for n in range(EVENTS):
        kind = draw.choice([extract, publish, collect, mes, upload, "stranger", "loss", "again"])
        key, minute = str(draw.randrange(40)), draw.randrange(120)
        at = f"2026-04-07T{minute // 60:02d}:{minute % 60:02d}:{draw.randrange(60):02d}Z"
        if kind == "again" and made:
            made.append(draw.choice(made))
        elif kind == "loss":
            span = {"start": at, "end": at, "flows": draw.choice([[], [key]])}
            made.append(Loss(event_id=f"l{n}", plant="north", agent=f"a{key}", stage="capture", events=3, **span))
        elif kind == "stranger":
            made.append(extract(n=n, key=key, at=at, destination=end((f"10.40.9.{key}", 51512)), account="svc_report"))
        elif not isinstance(kind, str):
            names = objects(f"quality.inspection_{draw.randrange(30)}", columns=("lot",), rows=draw.randrange(500), bytes=1000)
            made.append(kind(n=n, key=key, at=at) if kind is not extract else extract(n=n, key=key, at=at, objects=[names]))
    return made


def as_json(state: dict[str, Any]) -> dict[str, Any]:
    """Of what a budget counted, the order of the distinct objects says nothing."""
    said: dict[str, Any] = json.loads(json.dumps(state))
    for name in ("budgets", "caps"):
        said[name] = [[key, spent, sorted(counted)] for key, (spent, counted) in said[name].items()]
    return said


def plant(seed: int) -> VerdictDetector:
    """The example; on one of its hops distinct objects are limited, so that those are counted too."""
    return VerdictDetector(architecture(a=("limit: [200k rows / 1h,", "limit: [200k rows / 1h, 20 objects / 1h,")), edition=str(seed))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("small", [False, True])
def test_changes_put_onto_a_kept_state_are_the_state_of_now(seed: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        for module, name, bound in (
            (detectors.views, "CONNECTIONS_MAX", 9), (detectors.views, "FLOWS_MAX", 7), (detectors.budget, "BUDGETS_MAX", 5),
            (detectors.budget, "SLOTS_MAX", 6), (detectors.budget, "OBJECTS_COUNTED_MAX", 8), (detectors.findings, "FINDINGS_MAX", 3),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, bound)
    draw, live, copy = random.Random(seed), Engine([plant(seed)], Quiet()), Engine([plant(seed)], Quiet())
    kept_whole, waiting = False, stream(seed)
    while waiting:
        count = draw.randrange(1, 60)
        some, waiting = waiting[:count], waiting[count:]
        live.take(some)
        if kept_whole:
            copy.merge(live.changes())
        else:
            copy.restore(live.snapshot())
            live.changes()
            kept_whole = True
        assert as_json(copy.detectors[0].state()) == as_json(live.detectors[0].state())
        assert (copy.now_ns, copy.events_total) == (live.now_ns, live.events_total)


def test_changes_are_of_the_entries_that_moved_and_no_others() -> None:
    engine = Engine([detector()], Quiet())
    engine.take([extract(key=str(n)) for n in range(500)])
    engine.changes()
    before = len(engine.snapshot())
    engine.take([extract(key="7", n=1)])
    changed = engine.changes()
    assert len(json.loads(changed)["detectors"]["verdict"]["repeats"]) == 1
    assert len(changed) < before / 50


def test_changes_of_another_edition_are_refused() -> None:
    engine, other = Engine([detector(edition="a")], Quiet()), Engine([detector(edition="b")], Quiet())
    with pytest.raises(ValueError, match="another edition"):
        other.merge(engine.changes())
    with pytest.raises(SnapshotError):
        other.merge(b"{")
