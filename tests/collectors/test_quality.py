"""Each fault of a capture is injected into a clean one and named; the clean one has none."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from collectors import packets
from collectors.quality import Fault, faults
from hopwatch.capture import check, expected
from hopwatch.cli import main
from tests.collectors.frames import DAY, TCP, Frame, joined, mirrored, read, segment, write

DECLARATION = DAY.with_name("plant-demo.yaml")
HOUR_NS = 3_600 * 10**9
SECOND_NS = 10**9


def checked(capture: Path, nets: list[str] | None = None) -> dict[str, Fault]:
    sensor = packets.sensor("check", "check")
    found, _ = check(sensor, nets or [], [str(capture)], [], lambda: False)  # type: ignore[arg-type]  # It measures too.
    return {fault.fault: fault for fault in found}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return read()


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "capture.pcap"


def tcp_from_servers(frame: Frame) -> bool:
    return frame.protocol == TCP and frame.ends is not None and frame.ends[0][4:] < frame.ends[1][4:]


def moved(frame: Frame) -> Frame:
    """The same between other machines."""
    data = bytearray(frame.data)
    data[14 + 13] += 100
    data[14 + 17] += 100
    return frame.with_data(bytes(data))


def test_a_clean_capture_has_no_fault() -> None:
    assert checked(DAY, expected(DECLARATION)) == {}


def test_a_missing_direction_is_named_with_its_share_and_vlan(frames: list[Frame], capture: Path) -> None:
    half = [frame.tagged(120) if frame.ends else frame for frame in frames if not tcp_from_servers(frame)]
    found = checked(write(capture, half))
    assert list(found) == ["one-sided"]
    assert found["one-sided"].context == "vlan:120"
    assert found["one-sided"].figures["share"] > 0.9
    other = [moved(frame).tagged(130) for frame in frames if frame.ends]
    found = checked(write(capture, sorted([*half, *other], key=lambda frame: frame.time_ns)))
    assert found["one-sided"].context == "vlan:120"


def test_copies_are_named_with_their_share(frames: list[Frame], capture: Path) -> None:
    found = checked(write(capture, mirrored(frames, lambda frame: frame)))
    assert list(found) == ["copies"]
    assert found["copies"].figures["share"] == 0.5


def test_both_sides_of_a_router_without_a_tag_are_stripped_tags(frames: list[Frame], capture: Path) -> None:
    assert set(checked(write(capture, mirrored(frames, Frame.routed)))) == {"copies", "tags-stripped"}
    assert set(checked(write(capture, mirrored([frame.tagged(10) for frame in frames], Frame.routed)))) <= {"copies"}


def test_tags_of_one_direction_are_stripped_tags_and_not_one_sided(frames: list[Frame], capture: Path) -> None:
    found = checked(write(capture, [frame.tagged(120) if tcp_from_servers(frame) else frame for frame in frames]))
    assert list(found) == ["tags-stripped"]


def test_different_tags_of_the_directions_are_named(frames: list[Frame], capture: Path) -> None:
    found = checked(write(capture, [frame.tagged(50 if tcp_from_servers(frame) else 300) if frame.ends else frame for frame in frames]))
    assert list(found) == ["tags-differ"]


def arp(sender: tuple[int, ...], target: tuple[int, ...], time_ns: int) -> Frame:
    data = bytes([255] * 6 + [2] * 6) + b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" + bytes([2] * 6) + bytes(sender)
    data += bytes(6) + bytes(target)
    return Frame(time_ns, data, len(data))


def test_networks_that_speak_to_themselves_on_one_untagged_segment_are_stripped_tags(frames: list[Frame], capture: Path) -> None:
    apart = [frame for frame in frames if frame.ends]
    start_ns = apart[0].time_ns
    nets = ["10.20.1.0/24", "10.30.0.0/24"]
    asking = [arp((10, 20, 1, 5), (10, 20, 1, 1), start_ns), arp((10, 30, 0, 5), (10, 30, 0, 1), start_ns)]
    assert list(checked(write(capture, asking + apart), nets)) == ["tags-stripped"]
    assert list(checked(write(capture, [frame.tagged(9) for frame in asking] + apart), nets)) == []
    across = arp((10, 20, 1, 5), (10, 30, 0, 1), start_ns)
    assert list(checked(write(capture, [*asking, across, *apart]), nets)) == [], "one flat segment"


def test_loss_before_the_capture_is_named_with_its_bytes(frames: list[Frame], capture: Path) -> None:
    data = [i for i, frame in enumerate(frames) if (one := segment(frame)) and len(one.payload) > 500]
    gone = data[len(data) // 2]
    found = checked(write(capture, frames[:gone] + frames[gone + 1 :]))
    lost = segment(frames[gone])
    assert lost is not None
    assert list(found) == ["upstream-loss"]
    assert (found["upstream-loss"].figures["bytes"], found["upstream-loss"].figures["gaps"]) == (len(lost.payload), 1)


def test_a_snap_length_is_named_and_is_no_upstream_loss(frames: list[Frame], capture: Path) -> None:
    found = checked(write(capture, [Frame(frame.time_ns, frame.data[:96], len(frame.data)) for frame in frames]))
    assert list(found) == ["snap-length"]
    assert found["snap-length"].figures["at_bytes"] == 96


def test_joined_segments_are_offload(frames: list[Frame], capture: Path) -> None:
    sizes = [len(one.payload) for frame in frames if (one := segment(frame))]
    found = checked(write(capture, joined(frames)))
    assert list(found) == ["offload"]
    assert found["offload"].figures["bytes_max"] > max(sizes)
    # On `lo` nothing is larger than it may be.
    local = [frame.with_data(bytes(12) + frame.data[12:]) for frame in frames]
    assert checked(write(capture, local)) == {}


@pytest.mark.parametrize("after", [0.2, 0.35, 0.5, 0.65, 0.8])
def test_a_clock_set_while_capturing_is_named_both_ways(after: float, frames: list[Frame], capture: Path) -> None:
    # Between two frames of one connection: where nothing goes on, a silence may be one.
    one = (frame.protocol == TCP and frame.ends for frame in frames)
    pairs = [i for i, (first, second) in enumerate(pairwise(one), 1) if first and second and set(first) == set(second)]
    at = pairs[int(len(pairs) * after)]
    back = checked(write(capture, frames[:at] + [frame.later(-HOUR_NS) for frame in frames[at:]]))
    assert list(back) == ["clock-back"]
    assert 3_599 < back["clock-back"].figures["largest_s"] <= 3_600
    forward = checked(write(capture, frames[:at] + [frame.later(600 * SECOND_NS) for frame in frames[at:]]))
    assert list(forward) == ["clock-forward"]
    assert 600 <= forward["clock-forward"].figures["largest_s"] < 620


def test_a_quiet_hour_is_no_jump_of_the_clock(frames: list[Frame], capture: Path) -> None:
    tomorrow = [frame.later(HOUR_NS) for frame in frames]
    assert checked(write(capture, [*frames, *tomorrow])) == {}


def test_frames_of_two_interfaces_out_of_order_are_no_jump(frames: list[Frame], capture: Path) -> None:
    def swapped() -> Iterator[Frame]:
        for first, second in zip(frames[::2], frames[1::2], strict=False):
            near = second.time_ns - first.time_ns < 40_000_000
            yield from (second, first) if near else (first, second)

    assert "clock-back" not in checked(write(capture, swapped()))


def test_expected_networks_that_are_not_seen_are_named(frames: list[Frame], capture: Path) -> None:
    found = checked(write(capture, frames), ["10.20.1.0/24", "10.99.0.0/24", "2001:db8::/32"])
    assert list(found) == ["unseen-networks"]
    assert found["unseen-networks"].figures["nets"] == ["10.99.0.0/24", "2001:db8::/32"]


def test_kernel_drops_are_named_and_explain_gaps() -> None:
    measured = {
        "contexts": [{"vlans": [], "packets": 9, "copies": 0, "conversing": 1, "one_sided": 0}],
        "expected": [],
        "clock": {"back": {"count": 0}, "forward": {"count": 0}},
        "cut": {"frames": 0},
        "giants": {"packets": 0},
        "lost": {"gaps": 2, "bytes": 900, "connections": 1},
        "tags": {"split": 0, "half_untagged": 0, "routed_untagged": 0},
    }
    found = {fault.fault: fault for fault in faults(json.dumps(measured).encode(), {"packets": 9, "kernel_drops": 120})}
    assert set(found) == {"upstream-loss", "kernel-drops"}
    assert "120 packets" in found["upstream-loss"].do


def test_a_capture_without_packets_is_no_good_one(capture: Path) -> None:
    assert list(checked(write(capture, []))) == ["nothing-seen"]


def test_every_fault_says_what_to_do(frames: list[Frame], capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [
        Frame(frame.time_ns, frame.data[:200], len(frame.data)) for frame in mirrored(frames, Frame.routed) if not tcp_from_servers(frame)
    ]
    status = main(["capture", "check", "-r", str(write(capture, bad)), "-d", str(DECLARATION)])
    shown = capsys.readouterr().out
    assert status == 1
    for fault in checked(capture).values():
        assert fault.seen in shown
        assert fault.do in shown


def test_exit_status_and_json_say_good_faulty_and_wrong(frames: list[Frame], capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "check", "-r", str(DAY), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["good"], report["faults"]) == ("capture-check", True, [])
    assert main(["capture", "check", "-r", str(write(capture, mirrored(frames, lambda frame: frame))), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [fault["fault"] for fault in report["faults"]] == ["copies"]
    assert set(report["faults"][0]) == {"fault", "context", "seen", "do", "figures"}
    for wrong in (["-r", "nowhere.pcap"], [], ["-r", str(DAY), "--seconds", "3"], ["-i", "lo", "--seconds", "0"]):
        assert main(["capture", "check", *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
