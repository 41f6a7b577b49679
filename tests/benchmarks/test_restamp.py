"""A recording is played at another time, as often and as slowly as a story needs, and stays what it was."""

import gzip
from pathlib import Path

import pytest

from benchmarks.detection.restamp import RECORD, Played, length_ns, packets, play
from examples.plant.record import HEADER

SECOND_NS = 10**9


def recorded(path: Path, *packets_: tuple[int, bytes]) -> Path:
    with gzip.open(path, "wb") as out:
        out.write(HEADER)
        for at_ns, frame in packets_:
            out.write(RECORD.pack(*divmod(at_ns, SECOND_NS), len(frame), len(frame)) + frame)
    return path


def on_tape(path: Path) -> list[tuple[int, bytes]]:
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return list(packets(packed))


def test_a_recording_is_played_twice_and_once_slowly_in_the_order_of_time(tmp_path: Path) -> None:
    one = recorded(tmp_path / "one.pcap.gz", (7 * SECOND_NS, b"a"), (8 * SECOND_NS, b"b"))
    play([Played(one, 100 * SECOND_NS), Played(one, 50 * SECOND_NS, stretch=60)], tmp_path / "tape.pcap")
    assert on_tape(tmp_path / "tape.pcap") == [
        (50 * SECOND_NS, b"a"),
        (100 * SECOND_NS, b"a"),
        (101 * SECOND_NS, b"b"),
        (110 * SECOND_NS, b"b"),
    ]


def segment(client: int, *, back: bool = False) -> bytes:
    """An Ethernet frame with the IPv4 and TCP header of one connection of client port ``client``."""
    ends = [(bytes((10, 0, 0, 1)), client.to_bytes(2, "big")), (bytes((10, 0, 0, 2)), (5432).to_bytes(2, "big"))]
    (source, sport), (destination, dport) = reversed(ends) if back else ends
    return bytes(12) + b"\x08\x00" + bytes([0x45, *bytes(8), 6, 0, 0]) + source + destination + sport + dport


def test_connections_are_spread_and_each_runs_as_recorded(tmp_path: Path) -> None:
    frames = [segment(1), segment(1, back=True), segment(2), segment(1), segment(2, back=True)]
    one = recorded(tmp_path / "one.pcap.gz", *((second * SECOND_NS, frame) for second, frame in enumerate(frames, 7)))
    play([Played(one, 100 * SECOND_NS, spread=60)], tmp_path / "tape.pcap")
    assert [at_ns // SECOND_NS for at_ns, _ in on_tape(tmp_path / "tape.pcap")] == [100, 101, 103, 220, 222]


def test_stamps_that_pass_one_another_are_put_in_order(tmp_path: Path) -> None:
    capture = recorded(tmp_path / "one.pcap.gz", (5 * SECOND_NS, b"late"), (4 * SECOND_NS, b"early"))
    assert [frame for _, frame in packets(capture)] == [b"early", b"late"]
    assert length_ns(capture) == SECOND_NS


def test_another_capture_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.pcap.gz"
    other.write_bytes(gzip.compress(b"\x0a\x0d\x0d\x0a" + bytes(40)))
    with pytest.raises(ValueError, match=r"other\.pcap\.gz: expected a capture"):
        list(packets(other))
