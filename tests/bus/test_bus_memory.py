"""The log in memory keeps the contract of the one on the disk, as long as the process lives."""

import random
from pathlib import Path

import pytest

from hopwatch.bus import EVENT_BYTES_MAX, LogError, LogFull
from hopwatch.bus.embedded import EmbeddedLog
from hopwatch.bus.memory import MemoryLog


@pytest.mark.parametrize("seed", range(8))
def test_it_answers_as_the_log_on_the_disk_does(seed: int, tmp_path: Path) -> None:
    draw, memory, disk = random.Random(seed), MemoryLog(), EmbeddedLog(tmp_path / "log")
    for _ in range(120):
        match draw.choice(["append", "read", "commit"]):
            case "append":
                events = [b"%d" % draw.randrange(10**6) for _ in range(draw.randrange(5))]
                assert memory.append(events) == disk.append(events)
            case "read":
                offset, limit = draw.randrange(disk.end() + 3), draw.randrange(1, 20)
                assert memory.read(offset, limit) == disk.read(offset, limit)
            case "commit":
                consumer, offset = draw.choice(["engine", "slow"]), draw.randrange(disk.end() + 1)
                memory.commit(consumer, offset)
                disk.commit(consumer, offset)
        assert (memory.end(), memory.committed("engine"), memory.committed("slow")) == (
            disk.end(), disk.committed("engine"), disk.committed("slow"),
        )  # fmt: skip


def test_what_finds_no_room_is_refused_whole_and_room_comes_with_a_commit() -> None:
    log = MemoryLog(size_bytes_max=10)
    log.append([b"12345", b"678"])
    with pytest.raises(LogFull, match="10 bytes"):
        log.append([b"9", b"0123"])
    assert log.read(0, 9) == [(0, b"12345"), (1, b"678")]
    log.commit("engine", 1)
    assert log.append([b"9", b"0123"]) == 4
    assert log.read(0, 9) == [(1, b"678"), (2, b"9"), (3, b"0123")]


def test_an_event_too_long_for_any_log_is_refused() -> None:
    with pytest.raises(LogError, match="an event of more than"):
        MemoryLog().append([b"x" * (EVENT_BYTES_MAX + 1)])
