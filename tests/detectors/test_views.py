"""Several views of one connection count it once: a tap's exact bytes before what a switch or a sensor estimates of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from north import MW, NOON, detector, end, extract, upload

from detectors import views
from detectors.amounts import new_amounts
from detectors.views import ESTIMATES_MAX, HOLES_MAX, Connection, Views
from hopwatch.events import Flow, time_ns, time_text

BASE_NS = time_ns(NOON)
Window = tuple[Flow, bool, int]
"""A window, whether it lost nothing, and when it began."""


def window(second: float, size: int, agent: str = "tap-egress", *, state: str = "encrypted", **said: Any) -> Window:  # Any: as ``flow``
    """What a tap says of a connection under TLS."""
    at_ns = BASE_NS + int(second * 10**9)
    base = {"key": agent, "connection": "c", "agent": agent, "seen_by": "tap", "bytes": size, "bytes_back": 0, "source": end(MW)}
    made = upload(**base | {"at": time_text(at_ns), "n": int(second * 10), "completeness": {"state": state}} | said)
    return made, state in ("complete", "encrypted"), at_ns


def guess(second: float, size: int, agent: str = "switch-1", **said: Any) -> Window:  # Any: as ``flow``
    """What a switch says of what it carried until then."""
    at = time_text(BASE_NS + int(second * 10**9))
    made, _, at_ns = window(second, size, agent, **{"seen_by": "switch", "end": at, "completeness": {"estimated": True}} | said)
    return made, True, at_ns


class Sums:
    """What views of one connection say together."""

    def __init__(self, kept: Views | None = None) -> None:
        self.views = kept or Views()
        self.charged = self.net = 0

    def take(self, *windows: Window) -> "Sums":
        for flow, complete, at_ns in windows:
            connection = self.views.of(flow.connection)
            charged, net = new_amounts(self.views, flow, connection, complete=complete, start_ns=at_ns, righted_ns=0)
            assert charged["bytes"] >= 0
            self.charged, self.net = self.charged + charged["bytes"], self.net + net["bytes"]
        return self


def interleaved(draw: st.DrawFn, sides: list[list[Window]]) -> list[Window]:
    """Each side in its order, and otherwise any."""
    left = [list(side) for side in sides if side]
    said: list[Window] = []
    while left:
        side = draw(st.sampled_from(left))
        said.append(side.pop(0))
        left = [side for side in left if side]
    return said


SIZES = st.integers(0, 5_000)


@st.composite
def whole(draw: st.DrawFn) -> tuple[list[Window], int, int]:
    """A tap that lost nothing and a switch that saw the same, in any order; what was carried, and what the switch says."""
    tap, switch, carried, guessed, since = [], [], 0, 0, 0
    for second in range(draw(st.integers(1, 40))):
        size = draw(SIZES)
        tap.append(window(second, size))
        carried, since = carried + size, since + size + draw(st.integers(0, 2_000))
        if draw(st.booleans()):
            switch.append(guess(second + 0.5, since))
            guessed, since = guessed + since, 0
    switch.append(guess(second + 4, since))
    return interleaved(draw, [tap, switch]), carried, guessed + since


@st.composite
def any_views(draw: st.DrawFn) -> tuple[list[Window], list[Window]]:
    """Two taps that may lose something or come late, and two who estimate, in two orders."""
    states = st.sampled_from(["encrypted", "encrypted", "encrypted", "lossy", "late"])
    seconds = st.lists(st.integers(0, 200), max_size=8, unique=True)
    sides: list[list[Window]] = []
    for agent in ("tap-egress", "tap-2"):
        state = draw(states)
        sides.append([window(at, draw(SIZES), agent, state=state if at % 3 else "encrypted") for at in sorted(draw(seconds))])
    sides += [[guess(at, draw(SIZES), agent) for at in sorted(draw(seconds))] for agent in ("switch-1", "switch-2")]
    return interleaved(draw, sides), interleaved(draw, sides)


@given(whole())
def test_a_tap_that_lost_nothing_counts_whatever_is_estimated_and_whoever_comes_first(drawn: tuple[list[Window], int, int]) -> None:
    said, carried, guessed = drawn
    sums = Sums().take(*said)
    assert sums.net == carried
    # A limit is charged no less than that, and no more than was ever said.
    assert carried <= sums.charged <= max(carried, guessed)


@given(any_views())
def test_any_order_of_any_views_gives_the_same_sum(drawn: tuple[list[Window], list[Window]]) -> None:
    one, other = (Sums().take(*said) for said in drawn)
    assert one.net == other.net
    counts: dict[str, int] = {}
    for flow, _, _ in drawn[0]:
        counts[flow.agent] = counts.get(flow.agent, 0) + flow.bytes
    taps = [counts.get(name, 0) for name in ("tap-egress", "tap-2")]
    assert max(taps) <= one.net <= max(counts.values(), default=0)
    assert one.net <= one.charged <= sum(counts.values())


@given(any_views(), st.data())
def test_what_views_know_survives_a_save_and_a_load_and_changes_alone(
    drawn: tuple[list[Window], list[Window]], data: st.DataObject
) -> None:
    said = drawn[0]
    cut = data.draw(st.integers(0, len(said)))
    before, merged, loaded = Views(), Views(), Views()
    before.changes()
    Sums(before).take(*said[:cut])
    loaded.restore(json.loads(json.dumps(before.state())))
    merged.merge(json.loads(json.dumps(before.changes())))
    assert loaded.state() == merged.state() == before.state()
    rest = [Sums(kept).take(*said[cut:]) for kept in (before, loaded, merged)]
    assert len({(one.net, one.charged) for one in rest}) == 1


def test_an_estimate_counts_for_the_time_that_no_tap_covers() -> None:
    tap = [window(second, 100_000) for second in range(60)]
    # It was there from the beginning and is there no more after a minute; the switch says a tenth too much.
    sums = Sums().take(*tap, guess(30, 3_300_000), guess(60, 3_300_000), guess(90, 3_300_000), guess(120, 3_300_000))
    assert sums.net == 6_000_000 + 2 * 3_300_000
    # One that comes a minute late counts from there on; what was before is the switch's word.
    late = [window(second, 100_000, state="late") for second in range(60, 120)]
    sums = Sums().take(guess(30, 3_300_000), guess(60, 3_300_000), *late, guess(90, 3_300_000), guess(120, 3_300_000))
    assert sums.net == 4 * 3_300_000


def test_of_what_a_tap_lost_the_larger_counts_and_of_all_else_the_tap() -> None:
    tap = [window(second, 100_000, state="lossy" if 30 <= second < 60 else "encrypted") for second in range(120)]
    sums = Sums().take(*tap, *(guess(end, 4_000_000) for end in (29.5, 59.5, 89.5, 119.5)))
    assert sums.net == 9_000_000 + 4_000_000
    # Less than the tap has seen although it lost something is not believed.
    assert Sums().take(*tap, *(guess(end, 40_000) for end in (29.5, 59.5, 89.5, 119.5))).net == 12_000_000


def test_a_connection_that_rests_before_it_ends_is_the_taps_all_the_same() -> None:
    assert Sums().take(*(window(second, 100_000) for second in range(10)), guess(300, 1_030_000)).net == 1_000_000


def test_rows_that_no_tap_could_read_are_the_servers_word() -> None:
    rows = {"rows": 280, "objects": [{"names": ["mes.lots"], "rows": 280}]}
    kept = Sums()
    for one in (window(0, 9_000, operation="transfer"), guess(5, 0, "mes-db-log", seen_by="server-log", depth="server-log", **rows)):
        connection = kept.views.of(one[0].connection)
        _, net = new_amounts(kept.views, one[0], connection, complete=one[1], start_ns=one[2], righted_ns=0)
    assert (net["rows"], net["bytes"]) == (280, 0)


def test_what_one_tap_lost_another_may_have_seen() -> None:
    lossy = [window(second, 50_000, state="lossy") for second in range(60)]
    whole_ = [window(second, 100_000, "tap-2") for second in range(60)]
    assert Sums().take(*lossy, guess(60, 6_600_000), *whole_).net == 6_000_000


def test_an_estimate_that_came_first_is_put_right_in_the_finding_and_limits_are_given_nothing_back() -> None:
    watching = detector()
    asked = {"destination": end(("198.51.100.9", 443)), "source": end(MW)}
    first = watching.observe(guess(60, 6_600_000, **asked)[0])[0]
    assert (first.new["bytes"], first.net["bytes"]) == (6_600_000, 6_600_000)
    judged = [watching.observe(window(second, 100_000, **asked)[0])[0] for second in range(60)]
    assert sum(one.net["bytes"] for one in (first, *judged)) == 6_000_000
    assert min(one.new["bytes"] for one in judged) == 0
    assert judged[-1].finding is not None and first.finding is not None
    assert judged[-1].finding.finding_id == first.finding.finding_id
    assert judged[-1].finding.observed.bytes == 6_000_000
    # What was charged too much is taken off what comes.
    more = [watching.observe(window(second, 400_000, **asked)[0])[0].new["bytes"] for second in (60, 61)]
    assert more == [0, 200_000]


def test_a_state_that_was_kept_without_times_is_read() -> None:
    kept = Views()
    kept.restore([["a" * 32, {"tap/tap": {"along.bytes": 500}, "log/server-log": {"along.rows": 3}}, "decoded", "svc_mw", None, None]])
    assert kept.added("a" * 32, "tap/tap", {"along.bytes": 20, "along.rows": 0}) == {"along.bytes": 20, "along.rows": 0}
    assert isinstance(Connection.of({}, "blind", None, None, None), Connection)


@pytest.mark.parametrize("late", [False, True])
def test_what_is_remembered_of_times_is_bounded(late: bool) -> None:
    kept = Sums()
    for second in range(0, 4 * max(ESTIMATES_MAX, HOLES_MAX)):
        kept.take(window(second, 10, state="late" if late else "encrypted"), guess(second + 0.5, 14))
    (state,) = kept.views.state()
    assert len(json.dumps(state)) < 3_000
    assert kept.net == 4 * max(ESTIMATES_MAX, HOLES_MAX) * (14 if late else 10)
    assert len(state[6][0]) <= 6 and views.ESTIMATES_MAX == 16


@pytest.mark.parametrize(("part", "value"), [("account", "svc_else"), ("application", "psql"), ("role", "reporting"), ("depth", "decoded")])
def test_who_a_connection_is_follows_each_part_of_what_its_deepest_view_says(part: str, value: str) -> None:
    judge = detector()
    said = {"connection": "c", "key": "one", "account": "svc_mw", "application": "quality-extract/2.1", "role": None, "depth": "sizes"}
    judge.observe(extract(**said))
    judge.observe(extract(n=1, **said | {part: value}))
    ((_, _, *known),) = judge.state()["views"]
    assert dict(zip(("depth", "account", "application", "role"), known, strict=False))[part] == value
