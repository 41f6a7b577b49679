"""What must hold for every window, whatever it is: knowing less never helps, more is never milder, and twice is once."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from north import LAKE, LAKE_NAME, MES_DB, NIGHT, architecture, collect, detector, end, extract, mes, objects, publish, upload

from detectors.judgement import ROW, class_severity, raised
from detectors.verdict import VerdictDetector
from hopwatch.events import SEVERITIES, Flow, Loss

PLANT = architecture()
WINDOWS = {"extract": extract, "upload": upload, "publish": publish, "collect": collect, "mes": mes}
REMOVALS = {
    "account": {"account": None},
    "application": {"application": None},
    "objects": {"objects": [], "operation": "transfer", "depth": "sizes"},
    "names": {"objects": [objects("unknown", rows=3, bytes=3000)]},
    "depth": {"depth": "blind", "operation": "transfer"},
    "protection": {"protection": {"transport": "unknown"}},
    "lossy": {"completeness": {"state": "lossy"}},
    "late": {"completeness": {"state": "late", "joined_late": True}},
}
KNOWN_DIFFERENCES = {
    "end": {"source": end(("10.20.1.77", 5432))},
    "host": {"destination": end(("10.30.0.99", 50002))},
    "bytes": {"bytes": 400 * 2**20, "objects": [objects("quality.inspection", columns=("lot",), rows=1, bytes=400 * 2**20)]},
    "time": {"at": "2026-04-07T10:00:00Z"},
}
UNNAMED = st.sampled_from(sorted(REMOVALS))


def judged(window: Flow) -> object:
    return VerdictDetector(PLANT).observe(window)[0]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(WINDOWS)), st.sets(UNNAMED, min_size=1))
def test_removing_knowledge_never_yields_declared(kind: str, removed: set[str]) -> None:
    said: dict[str, object] = {}
    for name in sorted(removed):
        said |= REMOVALS[name]
    window = WINDOWS[kind](**said)
    verdict = judged(window).verdict
    # What nothing is declared about may be removed without a question losing its answer.
    undeclared = ({"application"} if kind != "extract" else set()) | ({"protection"} if kind == "collect" else set())
    if removed <= undeclared:
        return
    assert verdict != "declared"


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(KNOWN_DIFFERENCES)), st.sets(UNNAMED, max_size=4))
def test_removing_knowledge_never_hides_a_known_difference(difference: str, removed: set[str]) -> None:
    said: dict[str, object] = {}
    for name in sorted(removed):
        said |= REMOVALS[name]
    known = KNOWN_DIFFERENCES[difference]
    whole = judged(extract(**known))
    less = judged(extract(**said | {key: value for key, value in known.items() if key != "objects" or "objects" not in said}))
    assert ROW[whole.verdict] < ROW["blind"]
    assert ROW[less.verdict] < ROW["blind"], (difference, removed, less.verdict)


@given(st.floats(0, 1000), st.floats(0, 1000), st.sampled_from(SEVERITIES))
def test_severity_is_monotone_in_the_ratio(one: float, other: float, base: str) -> None:
    low, high = sorted((one, other))
    assert SEVERITIES.index(raised(base, low)) <= SEVERITIES.index(raised(base, high))


@given(st.sets(st.sampled_from(sorted(PLANT.classes))), st.sets(st.sampled_from(sorted(PLANT.classes))), st.booleans(), st.booleans())
def test_severity_is_monotone_in_the_classes(some: set[str], more: set[str], unclassified: bool, leaves: bool) -> None:
    less = class_severity(PLANT, some, leaves=leaves)
    assert SEVERITIES.index(less) <= SEVERITIES.index(class_severity(PLANT, some | more, unclassified=unclassified, leaves=leaves))


def test_a_thousand_declared_windows_raise_nothing() -> None:
    watching = detector()
    made = [extract, upload, publish, collect, mes]
    for n in range(1000):
        (judgement,) = watching.observe(made[n % 5](n=n))
        assert judgement.finding is None
    assert sum(watching.counted.values()) == 1000


def stream() -> list[Flow]:
    """Declared, wrong and repeated windows in an order that is always the same."""
    draw = random.Random(7)
    part = [objects("quality.inspection", columns=("lot",), rows=9_000, bytes=1000)]
    made: list[Flow] = []
    for n in range(60):
        made.append(extract(n=n, objects=part, at=f"2026-04-07T00:{n % 60:02d}:00Z"))
        if n % 4 == 0:
            made.append(extract(n=n, account="svc_report", objects=part, at=f"2026-04-07T00:{n % 60:02d}:30Z"))
        if n % 7 == 0:
            made.append(upload(n=n, bytes=40 * 2**20))
        made.append(draw.choice(made))
    return made


def said(watching: VerdictDetector, windows: list[Flow]) -> list[object]:
    return [(one.verdict, one.event, one.finding) for window in windows for one in watching.observe(window)]


def test_the_same_windows_give_the_same_judgements() -> None:
    assert said(detector(), stream()) == said(detector(), stream())


@pytest.mark.parametrize("cut", [0, 1, 50, 119])
def test_state_survives_a_save_and_load_half_way(cut: int) -> None:
    whole = said(detector(), stream())
    before = detector()
    first = said(before, stream()[:cut])
    after = detector()
    after.restore(json.loads(json.dumps(before.state())))
    assert first + said(after, stream()[cut:]) == whole
    assert {verdict for verdict, *_ in whole} >= {"declared", "over-limit", "undeclared-account"}


def test_repeated_windows_change_nothing_even_after_a_restart() -> None:
    watching = detector()
    said(watching, stream())
    state = watching.state()
    again = detector()
    again.restore(json.loads(json.dumps(state)))
    assert said(again, stream()) == []
    # A flow that is heard of again is the last to be forgotten: the order is another, and nothing else.
    assert json.dumps(again.state() | {"repeats": sorted(again.state()["repeats"])}) == json.dumps(
        state | {"repeats": sorted(state["repeats"])}
    )


def test_a_late_window_gives_the_judgement_it_would_have_given_in_time() -> None:
    early, later = extract(n=0, account="svc_report"), extract(n=1, at="2026-04-07T00:30:00Z")
    in_time, late = detector(), detector()
    assert sorted(one[0] for one in said(in_time, [early, later])) == sorted(one[0] for one in said(late, [later, early]))


def test_a_clock_far_ahead_does_not_hide_what_is_spent_now() -> None:
    watching = detector()
    full = [objects("quality.inspection", columns=("lot",), rows=200_000, bytes=1)]
    watching.observe(extract(objects=full))
    watching.observe(extract(n=1, at="2026-12-30T01:00:00Z", objects=full))
    assert watching.observe(extract(n=2, at="2026-04-07T00:01:00Z", objects=full))[0].verdict == "over-limit"


def test_amounts_that_a_loss_covers_are_unknown() -> None:
    watching = detector()
    watching.blind(Loss(event_id="l", plant="north", agent="tap-idmz", stage="spool", start=NIGHT, end="2026-04-07T00:00:05Z", events=3))
    (judgement,) = watching.observe(extract())
    assert (judgement.verdict, judgement.checked["how_much"]) == ("blind", "unknown")
    assert watching.observe(extract(n=1, at="2026-04-07T00:00:09Z"))[0].verdict == "declared"


def test_a_finding_accumulates_under_one_identity() -> None:
    watching = detector()
    part = [objects("mes.genealogy", columns=("lot",), rows=10, bytes=100)]
    found = [watching.observe(extract(n=n, objects=part))[0].finding for n in range(3)]
    assert len({one.finding_id for one in found}) == 1
    assert (found[-1].windows, found[-1].observed.rows, found[-1].observed.classes) == (3, 30, ["process_ip"])
    assert found[-1].evidence == [extract(n=n, objects=part).event_id for n in range(3)]
    assert len({one.event_id for one in found}) == 3


def session(**said: Any) -> list[Flow]:  # Any: fields of a flow
    """Login, data and logout of one undeclared session, as three windows."""
    data = extract(account="svc_report", destination=end(("10.40.9.77", 50006)), **said)
    ends = {"source": data.destination, "destination": data.source, "opened_by": "source", "operation": "connect", "objects": []}
    login, logout = (
        data.model_copy(
            update={**ends, "event_id": f"{data.event_id}{n}", "flow_id": f"{data.flow_id}{n}", "rows": 0, "bytes": 100, "bytes_back": 50}
        )
        for n in "12"
    )
    return [login, data, logout]


def test_one_undeclared_session_is_one_finding_that_runs_the_way_of_its_data() -> None:
    watching = detector()
    found = [watching.observe(window)[0].finding for window in session()]
    assert len({one.finding_id for one in found}) == 1
    assert [(one.source, one.destination) for one in found] == [("10.40.9.77", "mes-db"), *[("mes-db", "10.40.9.77")] * 2]
    assert (found[-1].windows, found[-1].observed.rows, found[-1].observed.bytes) == (3, 100, 9200)
    assert found[-1].differences == found[1].differences
    # Data the other way is another movement, so another finding; the logins stay with the first.
    data = session(n=7)[1]
    written = data.model_copy(
        update={"source": data.destination, "destination": data.source, "opened_by": "source", "event_id": "w", "flow_id": "w"}
    )
    assert watching.observe(written)[0].finding.finding_id != found[0].finding_id
    restored = detector()
    restored.restore(json.loads(json.dumps(watching.state())))
    later = [restored.observe(window)[0].finding for window in session(n=9)]
    assert {one.finding_id for one in later} == {found[0].finding_id}


def test_a_finding_names_the_host_that_dialled_whichever_way_the_data_runs() -> None:
    read = extract(account="svc_report")
    assert read.opened_by == "destination"
    written = read.model_copy(update={"source": read.destination, "destination": read.source, "opened_by": "source"})
    stranger = extract(account="svc_report", destination=end(("10.30.0.99", 50002)))
    clients = [detector().observe(window)[0].finding.client for window in (read, written, stranger)]
    assert clients == [f"mw ({read.destination.address})", f"mw ({read.destination.address})", "10.30.0.99"]


def test_a_class_that_never_leaves_is_critical_off_site() -> None:
    text = architecture(what=("    what: [inspection]\n", "    what: [inspection]\n"))
    assert text.classes["process_ip"].off_site == "never"
    window = upload(
        operation="put", depth="decoded", protocol="http", account="svc_lake", source=end(MES_DB),
        destination=end(LAKE, (LAKE_NAME, "dns")),
        objects=[objects("mes.genealogy", rows=1, bytes=10)],
    )  # fmt: skip
    assert judged(window).severity == "critical"
