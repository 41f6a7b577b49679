"""One day, plain, mirrored and on `lo`: the same rows, bytes and findings; and with one direction only, nothing is invented."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from hopwatch.cli import main
from tests.collectors.frames import DAY, Frame, mirrored, on_loopback, read, write

DECLARATION = DAY.with_name("plant-demo.yaml")
Json = dict[str, Any]  # Any: JSON values.

MIRRORS: dict[str, tuple[Callable[[Frame], Frame], int]] = {
    "nothing differs": (lambda frame: frame, 30_000),
    "another VLAN": (lambda frame: frame.tagged(20), 30_000),
    "behind a router": (Frame.routed, 30_000),
    "behind a router, another VLAN, late": (lambda frame: frame.routed().tagged(20), 45_000_000),
}


def watch(capture: Path) -> list[Json]:
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(printed):
        main(["watch", "-d", str(DECLARATION), "-r", str(capture), "--store", "none", "--json"])
        printed.flush()
    return [json.loads(line) for line in printed.buffer.getvalue().splitlines()]  # type: ignore[attr-defined]  # BytesIO.


def flows(events: Sequence[Json]) -> list[Json]:
    return [event for event in events if event["kind"] == "flow"]


def amounts(events: Sequence[Json]) -> dict[tuple[str, ...], Counter[str]]:
    """Rows, values, messages and bytes by connection, account, operation and objects, whatever the windows' boundaries."""
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for flow in flows(events):
        key = (flow["connection"], str(flow["account"]), flow["operation"], flow["source"]["address"])
        names = ("rows", "values", "messages", "bytes", "bytes_back")
        sums.setdefault(key, Counter()).update({name: flow[name] for name in names})
        for part in flow["objects"]:
            own = (*key, *part["names"])
            sums.setdefault(own, Counter()).update({name: part[name] for name in names[:4]})
    return sums


def findings(events: Sequence[Json]) -> dict[str, Json]:
    """Each finding as it stands at the end, without what depends on the boundaries of windows."""
    last = {event["finding_id"]: event for event in events if event["kind"] == "finding"}
    boundaries = ("event_id", "evidence", "windows", "first_seen", "last_seen")
    return {identity: {key: value for key, value in event.items() if key not in boundaries} for identity, event in last.items()}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return read()


@pytest.fixture(scope="module")
def plain() -> list[Json]:
    return watch(DAY)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirrored_day_gives_the_events_of_the_plain_one(mirror: str, frames: list[Frame], plain: list[Json], tmp_path: Path) -> None:
    again, delay_ns = MIRRORS[mirror]
    seen = watch(write(tmp_path / "mirrored.pcap", mirrored(frames, again, delay_ns)))
    assert flows(seen) == flows(plain)
    assert findings(seen) == findings(plain)
    assert findings(plain)
    summary = seen[-1]
    assert summary["copies"] == sum(1 for frame in frames if frame.ip)
    assert summary["packets"] == plain[-1]["packets"] + summary["copies"]


def test_both_sides_of_a_router_give_the_amounts_of_one(frames: list[Frame], plain: list[Json], tmp_path: Path) -> None:
    """What goes one way is seen in VLAN 10 first, what goes the other way in VLAN 20."""

    def sides(frame: Frame) -> tuple[Frame, Frame]:
        first, second = (10, 20) if frame.ends is not None and frame.ends[0] < frame.ends[1] else (20, 10)
        return frame.tagged(first), frame.routed().tagged(second).later(30_000)

    both = [side for frame in frames for side in (sides(frame) if frame.ends else (frame,))]
    seen = watch(write(tmp_path / "routed.pcap", sorted(both, key=lambda frame: frame.time_ns)))
    assert amounts(seen) == amounts(plain)
    assert findings(seen) == findings(plain)


def test_the_day_on_loopback_gives_the_same_amounts_and_findings(frames: list[Frame], plain: list[Json], tmp_path: Path) -> None:
    local = list(on_loopback(frames))
    assert len(local) < len(frames)
    seen = watch(write(tmp_path / "lo.pcap", local))
    assert amounts(seen) == amounts(plain)
    assert findings(seen) == findings(plain)


def test_half_a_mirror_is_said_in_the_summary(frames: list[Frame], plain: list[Json], tmp_path: Path) -> None:
    half = [frame for frame in frames if frame.ends is None or frame.ends[0][4:] > frame.ends[1][4:]]
    assert plain[-1]["one_sided_share"] == 0
    assert watch(write(tmp_path / "half.pcap", half))[-1]["one_sided_share"] == 1
