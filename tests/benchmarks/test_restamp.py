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


def test_stamps_that_pass_one_another_are_put_in_order(tmp_path: Path) -> None:
    capture = recorded(tmp_path / "one.pcap.gz", (5 * SECOND_NS, b"late"), (4 * SECOND_NS, b"early"))
    assert [frame for _, frame in packets(capture)] == [b"early", b"late"]
    assert length_ns(capture) == SECOND_NS


def test_another_capture_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.pcap.gz"
    other.write_bytes(gzip.compress(b"\x0a\x0d\x0d\x0a" + bytes(40)))
    with pytest.raises(ValueError, match=r"other\.pcap\.gz: expected a capture"):
        list(packets(other))
