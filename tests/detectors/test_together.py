"""The sets of a window are judged as one where that cannot make a difference: the outcome is that of judging each by itself."""

from collections.abc import Sequence

import pytest
from north import NOON, collect, detector, extract, objects, publish

import detectors.verdict
from hopwatch.events import Flow, time_ns, time_text

TOPICS = [objects(f"north/line1/telemetry/{name}", messages=7, bytes=600) for name in ("temp", "pressure", "speed", "torque", "power")]
NODES = [objects(f"ns=2;s=Line1/Telemetry/{name}", values=50, messages=5, bytes=4000) for name in ("Temp", "Speed", "Power")]
TABLES = [objects(f"quality.{name}", columns=("lot",), rows=1_000, bytes=9_000) for name in ("inspection", "inspection", "defect", "lot")]


def windows() -> list[Flow]:
    """Windows of many sets: declared, with one object that is not, with an unread one, with more than a limit allows, repeated."""
    odd = objects("north/line1/recipe/setpoint", messages=1, bytes=90)
    unread = objects("unknown", messages=1, bytes=90)
    much = [one | {"bytes": 20 << 20} for one in TOPICS]
    back = [one | {"rows": -3} for one in TABLES]
    made: list[Flow] = []
    for n in range(12):
        at = time_text(time_ns(NOON) + n * 10**9)
        made += [publish(n=6 * n + i, at=at, objects=sets) for i, sets in enumerate((TOPICS, [*TOPICS, odd], [*TOPICS, unread], much))]
        made += [collect(n=n, at=at, objects=NODES), extract(n=2 * n, objects=TABLES), extract(n=2 * n + 1, objects=back)]
    return made


def outcome(flows: Sequence[Flow]) -> list[object]:
    judge = detector()
    said = [(one.event, one.classes, one.hop) for flow in flows for one in judge.observe(flow)]
    return [*said, judge.state()]


def test_sets_judged_together_give_what_each_gives_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    together = outcome(windows())
    monkeypatch.setattr(detectors.verdict, "TOGETHER_SETS_MIN", 1_000)
    assert together == outcome(windows())


def test_a_window_of_many_declared_topics_is_compared_with_its_hop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, compared = detector(), []
    compare = detectors.verdict.compare
    monkeypatch.setattr(detectors.verdict, "compare", lambda *given, **more: compared.append(given[2]) or compare(*given, **more))
    assert [one.verdict for one in judge.observe(publish(objects=TOPICS))] == ["declared"]
    assert len(compared) == len(set(compared))
